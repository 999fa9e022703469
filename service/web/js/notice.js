// The sentences above the message field, each with the cause that it is about: it stays until it is
// dismissed or its cause is gone. And the silent line that only screen readers hear.

import { byId } from "./dom.js";

const bar = byId("notice");
const [words, act, dismiss] = bar.children;
const told = new Map(); // cause -> {text, action}, the newest last
let action;
act.addEventListener("click", () => action.act());
dismiss.addEventListener("click", () => {
  told.clear();
  draw();
});

/**
 * Say why something did not work; what was done last ("act") gives way to the next thing that is done.
 * `way` {label, act} is a button that leads out of it.
 */
export function notify(text, cause = "act", way = null) {
  told.delete(cause);
  told.set(cause, { text, way });
  draw();
}

/** The cause is gone. */
export function settled(cause = "act") {
  if (told.delete(cause)) draw();
}

function draw() {
  const { text, way } = told.get("access") ?? [...told.values()].at(-1) ?? { text: "", way: null };
  if (words.textContent !== text) words.textContent = text;
  bar.hidden = !text;
  action = way;
  act.hidden = !way;
  act.textContent = way?.label ?? "";
}

export function say(text) {
  byId("status").textContent = text;
}
