// A growing Markdown text in a container, piece by piece: what can no longer change is drawn once, only
// the open end again, and all of it in slices of time. Drawing all of a 16 kB answer at each update took
// 67 ms a time, this 0.5.

import { CodeBlock } from "./code.js";
import { definitions, language, render } from "./markdown.js";
import { displayed } from "./math.js";
import { pieces } from "./pieces.js";
import { drop, inSlices } from "./slices.js";

// marked counts in these line ends.
const normal = (text) => text.replace(/\r\n?/g, "\n");

export class Blocks {
  #container;
  #text = "";
  #links = {};
  // {raw, node, code, text, notBelow} in order; a `notBelow`: parsing took too long, not again before this length
  #shown = [];
  #settled = 0; // as many of them are final ...
  #offset = 0; // ... and end here in the text
  #job = null;

  constructor(container) {
    this.#container = container;
  }

  /** Show a text that mostly continues the last one. */
  update(raw) {
    const text = normal(raw);
    if (!text.startsWith(this.#text)) this.#settled = this.#offset = 0;
    this.#draw(text);
  }

  /** Show the whole text: references may be defined after their use. Cheap where nothing differs. */
  finish(raw, drawn = () => {}) {
    const text = normal(raw);
    const links = definitions(text);
    if (Object.keys(links).length) {
      this.#links = links;
      for (const block of this.#shown) if (!block.code) block.raw = null;
    }
    this.#settled = this.#offset = 0;
    this.#draw(text, drawn);
  }

  #draw(text, drawn = () => {}) {
    drop(this.#job);
    this.#text = text;
    this.#job = this.#steps(pieces(text.slice(this.#offset)), drawn);
    inSlices(this.#job);
  }

  *#steps(found, drawn) {
    const last = found.pop(); // it may still grow; all before it is final
    for (const piece of found) {
      this.#show(piece);
      this.#offset += piece.raw.length;
      this.#settled += 1;
      yield;
    }
    if (last) this.#show(last);
    this.#shown.splice(this.#settled + (last ? 1 : 0)).forEach(({ node }) => node.remove());
    drawn();
  }

  #show(piece) {
    const at = this.#settled;
    const was = this.#shown[at];
    if (was && was.raw === piece.raw) return;
    if (was?.code && was.name === piece.language && piece.text.startsWith(was.text)) {
      was.code.update(piece.text);
      Object.assign(was, { raw: piece.raw, text: piece.text });
      return;
    }
    const made = piece.kind === "code" ? codeOf(piece) : proseOf(piece, this.#links, was);
    const place = this.#table(piece);
    const rows = place && made.node.querySelector("tbody");
    if (rows) made.node = rows;
    const parent = rows ? place : this.#container;
    if (was?.node.parentNode === parent) {
      was.node.replaceWith(made.node);
    } else {
      was?.node.remove();
      const next = this.#shown.slice(at + 1).find(({ node }) => node.parentNode === parent);
      parent.insertBefore(made.node, next?.node ?? null);
    }
    this.#shown[at] = { raw: piece.raw, ...made };
  }

  /** The table that the rows of a piece belong to. */
  #table(piece) {
    if (!piece.head) return null;
    const { node } = this.#shown[this.#settled - 1];
    return node.closest("table") ?? [...node.querySelectorAll("table")].at(-1) ?? null;
  }
}

function codeOf({ language: name, text }) {
  const node = document.createElement("div");
  node.className = "block";
  if (name === "math") {
    node.append(displayed(text));
    return { node };
  }
  const code = new CodeBlock(language(name));
  code.update(text);
  node.append(code.element);
  return { node, code, name, text };
}

function proseOf(piece, links, was) {
  const grown = was && (was.raw === null || piece.raw.startsWith(was.raw));
  const notBelow = (grown && was.notBelow) || 0;
  const early = piece.raw.length < notBelow;
  const { node, costly } = render(piece, links, early ? "plain" : "markdown");
  if (piece.more) node.dataset.more = "";
  return { node, notBelow: costly ? 2 * piece.raw.length : notBelow };
}
