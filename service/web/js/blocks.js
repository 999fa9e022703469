// A growing Markdown text in a container, block by block: what can no longer change is rendered once,
// only the open end again. Rendering all of a 16 kB answer at each update took 67 ms a time, this 0.5.

import { blocks, render } from "./markdown.js";
import { plain } from "./parse.js";

// marked counts in these line ends.
const normal = (text) => text.replace(/\r\n?/g, "\n");

export class Blocks {
  #container;
  #text = "";
  #shown = []; // {raw, node}, in order
  #settled = 0; // as many of them are final ...
  #offset = 0; // ... and end here in the text
  #notBelow = 0; // an open end that took too long is tried again at twice its length

  constructor(container) {
    this.#container = container;
  }

  /** Show a text that mostly continues the last one. */
  update(raw) {
    const text = normal(raw);
    if (!text.startsWith(this.#text)) this.#settled = this.#offset = this.#notBelow = 0;
    this.#text = text;
    const open = text.slice(this.#offset);
    const found = open.length < this.#notBelow ? plain(open) : blocks(open);
    this.#notBelow = found.costly ? 2 * open.length : this.#notBelow;
    const solid = found.filter((block) => block.type !== "space");
    this.#show(solid);
    // The last block may still grow; all above it is final.
    for (const block of found.slice(0, Math.max(0, found.indexOf(solid.at(-1))))) {
      if (!text.startsWith(block.raw, this.#offset)) return; // marked has mended it: count no further
      this.#offset += block.raw.length;
      if (block.type !== "space") this.#settled += 1;
    }
  }

  /** Show the whole text: references may be defined after their use. Cheap where nothing differs. */
  finish(raw) {
    const text = normal(raw);
    const found = blocks(text);
    if (found.costly) {
      // What is shown stays; of a text that comes whole nothing is.
      if (!this.#offset || !text.startsWith(this.#text)) this.#notBelow = Infinity;
      return this.update(text);
    }
    this.#text = text;
    this.#settled = this.#offset = 0;
    if (Object.keys(found.links ?? {}).length) this.#shown.forEach((block) => (block.raw = null));
    this.#show(found.filter((block) => block.type !== "space"));
  }

  #show(found) {
    found.forEach((block, i) => {
      const at = this.#settled + i;
      if (this.#shown[at]?.raw === block.raw) return;
      const node = render(block);
      if (this.#shown[at]) this.#shown[at].node.replaceWith(node);
      else this.#container.append(node);
      this.#shown[at] = { raw: block.raw, node };
    });
    this.#shown.splice(this.#settled + found.length).forEach(({ node }) => node.remove());
  }
}
