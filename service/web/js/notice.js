// One sentence above the message field that stays until it is dismissed or outdated, and the
// silent line that only screen readers hear.

import { byId } from "./dom.js";

const bar = byId("notice");
const [words, dismiss] = bar.children;
dismiss.addEventListener("click", () => notify(null));

export function notify(text) {
  words.textContent = text ?? "";
  bar.hidden = !text;
}

export function say(text) {
  byId("status").textContent = text;
}
