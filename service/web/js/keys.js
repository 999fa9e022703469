// The keys that work everywhere on the page; the message field and the editor of a question have their own.

// `?` and `/` are written where one writes.
const SIGNS = { "/": "field", "?": "help" };
const CHORDS = { "Ctrl K": "search", "Ctrl Shift O": "fresh", "Alt N": "fresh", "Alt C": "copy", "Alt B": "list" };
const APPLE = /Mac|iPhone|iPad/.test(navigator.platform);

/** The letter of a key, by its place where it writes none of ours (Alt on a Mac, a Cyrillic layout). */
const letter = ({ key, code }) => (/^[a-z]$/i.test(key) ? key.toUpperCase() : code.replace("Key", ""));

function chord(event) {
  const held = { Ctrl: APPLE ? event.metaKey : event.ctrlKey, Alt: event.altKey, Shift: event.shiftKey };
  if (APPLE ? event.ctrlKey : event.metaKey) return "";
  return [...Object.keys(held).filter((name) => held[name]), letter(event)].join(" ");
}

/** `act`: {search, fresh, copy, list, field, help, leave}, each a function. */
export function keys(act) {
  addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open], :popover-open") || event.isComposing) return;
    if (event.key === "Escape") return act.leave();
    const sign = event.target.closest("input, textarea, select") ? undefined : SIGNS[event.key];
    const what = CHORDS[chord(event)] ?? sign;
    if (!what) return;
    event.preventDefault();
    act[what]();
  });
}
