// A growing Markdown text in a container, piece by piece: what can no longer change is drawn once, only
// the open end again, and all of it in slices of time. Drawing all of a 16 kB answer at each update took
// 67 ms a time, this 0.5.

import { CodeBlock } from "./code.js";
import { definitions, language, render } from "./markdown.js";
import { displayed } from "./math.js";
import { pieces } from "./pieces.js";
import { drop, inSlices } from "./slices.js";

// Blocks stand in groups, since what the browser leaves out while it is off the screen has its price as well: a
// group has so many blocks, and so many characters when the next one begins.
const MOST_BLOCKS = 16;
const ENOUGH = 4000;

// marked counts in these line ends.
const normal = (text) => text.replace(/\r\n?/g, "\n");

export class Blocks {
  #container;
  #text = ""; // what is being drawn, or was
  #wanted = ""; // what is to be drawn then
  #links = {};
  // {raw, node, code, text, notBelow} in order; a `notBelow`: parsing took too long, not again before this length
  #shown = [];
  #settled = 0; // as many of them are final ...
  #offset = 0; // ... and end here in the text,
  #next = {}; // where a piece like this begins: one that goes on with a table needs its head
  #job = null;

  constructor(container) {
    this.#container = container;
  }

  /** Show a text that mostly continues the last one. */
  update(raw) {
    this.#wanted = normal(raw);
    if (!this.#wanted.startsWith(this.#text)) {
      this.#anew();
    } else if (this.#job) {
      return; // it goes on with that: if each change began anew, an answer that is faster than us would stand still
    }
    this.#draw();
  }

  /** Show the whole text: references may be defined after their use. Cheap where nothing differs. */
  finish(raw, drawn = () => {}) {
    this.#wanted = normal(raw);
    this.#anew();
    this.#draw(drawn);
  }

  #anew() {
    this.#settled = this.#offset = 0;
    this.#next = {};
  }

  #draw(drawn = null) {
    drop(this.#job);
    this.#text = this.#wanted;
    this.#job = this.#steps(drawn);
    inSlices(this.#job);
  }

  /** `drawn`: it is the whole text, and this is called when it is there. */
  *#steps(drawn) {
    try {
      if (drawn) this.#define(definitions(this.#text));
      yield* this.#pieces(pieces(this.#text.slice(this.#offset), this.#next));
    } finally {
      this.#job = null;
    }
    drawn?.();
    if (this.#wanted !== this.#text) this.#draw();
  }

  #define(links) {
    if (!Object.keys(links).length) return;
    this.#links = links;
    for (const block of this.#shown) if (!block.code) block.raw = null;
  }

  *#pieces(found) {
    const last = found.pop(); // it may still grow; all before it is final
    for (const [i, piece] of found.entries()) {
      yield* this.#show(piece);
      this.#offset += piece.raw.length;
      this.#settled += 1;
      this.#next = found[i + 1] ?? last;
      yield;
    }
    if (last) yield* this.#show(last);
    this.#shown.splice(this.#settled + (last ? 1 : 0)).forEach(remove);
  }

  *#show(piece) {
    const was = this.#shown[this.#settled];
    if (was && was.raw === piece.raw) return;
    if (was?.code && was.name === piece.language && piece.text.startsWith(was.text)) {
      yield* grow(was, piece);
    } else if (piece.kind === "code") {
      const made = codeOf(piece);
      this.#place(piece, made);
      if (made.code) yield* grow(made, piece);
    } else {
      this.#place(piece, yield* proseOf(piece, this.#links, was));
    }
  }

  /** Put what was made of a piece into its place. */
  #place(piece, made) {
    const at = this.#settled;
    const was = this.#shown[at];
    const table = this.#table(piece);
    const rows = table && made.node.querySelector("tbody");
    if (rows) made.node = rows;
    if (was && (rows ? was.node.parentNode === table : was.node.className === "block")) {
      was.node.replaceWith(made.node);
      for (const row of this.#shown.slice(at + 1)) if (was.node.contains(row.node)) row.raw = null; // went with its table
    } else {
      if (was) remove(was);
      if (rows) table.insertBefore(rows, this.#shown.slice(at + 1).find(({ node }) => node.parentNode === table)?.node ?? null);
      else this.#insert(made.node, this.#shown[at - 1]?.node.closest(".block"));
    }
    this.#shown[at] = Object.assign(made, { raw: piece.raw });
  }

  /** Put a block behind another one, or to the beginning. */
  #insert(node, before) {
    let group = before?.parentNode ?? this.#container.firstElementChild;
    if (!group || (before && !before.nextSibling && (group.childElementCount >= MOST_BLOCKS || group.textContent.length >= ENOUGH))) {
      const full = group;
      group = document.createElement("div");
      group.className = "group";
      group.toggleAttribute("data-more", "more" in node.dataset);
      if (full) full.after(group);
      else this.#container.prepend(group);
      before = null;
    }
    if (before) before.after(node);
    else group.prepend(node);
  }

  /** The table that the rows of a piece belong to. */
  #table(piece) {
    if (!piece.head) return null;
    const { node } = this.#shown[this.#settled - 1];
    return node.closest("table") ?? [...node.querySelectorAll("table")].at(-1) ?? null;
  }
}

function remove({ node }) {
  const around = node.parentNode;
  node.remove();
  if (!around.hasChildNodes()) around.remove();
}

/** Code that mostly continues what is there; what is begun is known not to be done. */
function* grow(block, { raw, text }) {
  block.raw = null;
  yield* block.code.update(text);
  Object.assign(block, { raw, text });
}

function codeOf({ language: name, text }) {
  const node = document.createElement("div");
  node.className = "block";
  if (name === "math") {
    node.append(displayed(text));
    return { node };
  }
  const code = new CodeBlock(language(name));
  node.append(code.element);
  return { node, code, name, text: "" };
}

function* proseOf(piece, links, was) {
  const grown = was && (was.raw === null || piece.raw.startsWith(was.raw));
  const notBelow = (grown && was.notBelow) || 0;
  const early = piece.raw.length < notBelow;
  const { node, costly } = yield* render(piece, links, early ? "plain" : "markdown");
  if (piece.more) node.dataset.more = "";
  return { node, notBelow: costly ? 2 * piece.raw.length : notBelow };
}
