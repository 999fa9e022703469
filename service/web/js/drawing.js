// The text of an answer on the page. What draws it (Markdown, its parser, the sanitizer: half of the page)
// is loaded when there is an answer: the first one of a new chat has not begun by then.

let Blocks = null;
let loading = null;
const waiting = new Set();

async function load() {
  try {
    // Side by side, not one when the other has named it.
    const [{ Blocks: loaded }] = await Promise.all([
      import("./blocks.js"), import("./markdown.js"), import("./sanitize.js"), import("./parse.js"),
    ]);
    Blocks = loaded;
  } catch {
    loading = null; // offline: the text is shown as it is, and the next change asks again
  }
  for (const drawing of waiting) drawing.arrived();
}

export class Drawing {
  #container;
  #blocks = null;
  #last = null; // {text, whole, drawn} that waits

  constructor(container) {
    this.#container = container;
  }

  /** Show a text that mostly continues the last one. */
  update(text) {
    this.#draw({ text, whole: false });
  }

  /** Show the whole text; `drawn` is called when all of it is there. */
  finish(text, drawn = () => {}) {
    this.#draw({ text, whole: true, drawn });
  }

  #draw(last) {
    this.#last = last;
    if (Blocks) return this.arrived();
    waiting.add(this);
    loading ??= load();
  }

  arrived() {
    waiting.delete(this);
    const { text, whole, drawn } = this.#last;
    if (!Blocks) {
      this.#container.textContent = text;
      drawn?.();
      return;
    }
    if (!this.#blocks) this.#container.replaceChildren();
    this.#blocks ??= new Blocks(this.#container);
    if (whole) this.#blocks.finish(text, drawn);
    else this.#blocks.update(text);
  }
}
