// The sentences above the message field, each with the cause that it is about: it stays until it is
// dismissed or its cause is gone. And the silent line that only screen readers hear.

import { byId } from "./dom.js";

const bar = byId("notice");
const [words, dismiss] = bar.children;
const told = new Map(); // cause -> sentence, the newest last
dismiss.addEventListener("click", () => {
  told.clear();
  draw();
});

/** Say why something did not work; what was done last ("act") gives way to the next thing that is done. */
export function notify(text, cause = "act") {
  told.delete(cause);
  told.set(cause, text);
  draw();
}

/** The cause is gone. */
export function settled(cause = "act") {
  if (told.delete(cause)) draw();
}

function draw() {
  const text = [...told.values()].at(-1) ?? "";
  if (words.textContent !== text) words.textContent = text;
  bar.hidden = !text;
}

export function say(text) {
  byId("status").textContent = text;
}
