// Code with its language, a button that copies it, and colours. It grows in place: what is there stays,
// so that a selection and the place where one has scrolled to survive. Coloured in parts, because
// colouring is linear at best: what can no longer change is coloured once.

import { colour } from "./colours.js";
import { fromTemplate } from "./dom.js";
import { texts } from "./texts.js";

// A part ends before a line that begins at the margin once it has this many characters (some 3 ms of
// colouring on a laptop), and at any line at twice that.
const PART = 2000;
// A part that has more than this, since one of its lines is that long, is not coloured.
const LONGEST = 8 * PART;

/** The first part of a text. */
function part(text) {
  if (text.length <= PART) return text;
  const margin = /\n(?=[^\s})\]])/g;
  margin.lastIndex = PART;
  const found = margin.exec(text.slice(0, 2 * PART));
  if (found) return text.slice(0, found.index + 1);
  const newline = text.indexOf("\n", 2 * PART);
  return newline < 0 ? text : text.slice(0, newline + 1);
}

export class CodeBlock {
  #language;
  #code = document.createElement("code");
  #parts = []; // {text, node}

  constructor(language) {
    this.#language = language;
    this.element = fromTemplate("code-template");
    const [caption, pre] = [this.element.firstElementChild, document.createElement("pre")];
    caption.querySelector("span").textContent = language || texts.plainText;
    caption.querySelector("button").setAttribute("aria-label", texts.copyCode(language));
    if (language) this.#code.className = `language-${language}`;
    pre.append(this.#code);
    pre.dir = "ltr";
    pre.tabIndex = 0;
    pre.setAttribute("role", "group");
    pre.setAttribute("aria-label", texts.code(language));
    this.element.append(pre);
  }

  /** Show this text, which mostly continues the last one; in steps, one part in each. */
  *update(text) {
    const whole = text.endsWith("\n") ? text : `${text}\n`;
    let [at, i] = [0, 0];
    for (; i < this.#parts.length - 1 && whole.startsWith(this.#parts[i].text, at); i++) at += this.#parts[i].text.length;
    for (; at < whole.length; i++) {
      const next = part(whole.slice(at));
      at += next.length;
      if (this.#parts[i]?.text === next) continue;
      this.#show(i, next);
      if (at < whole.length) yield;
    }
    this.#parts.splice(i).forEach(({ node }) => node.remove());
  }

  #show(i, text) {
    const node = document.createElement("span");
    node.className = "lines";
    node.textContent = text;
    if (this.#parts[i]) this.#parts[i].node.replaceWith(node);
    else this.#code.append(node);
    this.#parts[i] = { text, node };
    if (text.length <= LONGEST) colour(node, this.#language);
  }
}
