// The focus never falls out of the page: where the element that had it has gone, is hidden or disabled,
// it goes to the message field, on touch screens (where that brings up a keyboard) to the conversation.

import { byId } from "./dom.js";

let last = null;

const lost = (element) => !element.isConnected || element.disabled || !element.checkVisibility();

function mend() {
  const active = document.activeElement;
  const away = active === document.body || active === null || (active === last && lost(active));
  if (!last || !away || !lost(last) || document.querySelector("dialog[open]")) return;
  last = null;
  const keys = matchMedia("(hover: hover)").matches;
  byId(keys ? "field" : "scroll").focus({ preventScroll: true });
}

/** Look after what has just been done, when the page has been drawn. */
export function keepFocus() {
  requestAnimationFrame(() => setTimeout(mend));
}

export function watchFocus() {
  addEventListener("focusin", (event) => (last = event.target));
  for (const name of ["click", "keyup", "submit"]) addEventListener(name, keepFocus);
}
