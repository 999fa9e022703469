// A Markdown text to pieces that can be parsed and drawn one by one; joined they are the text.
// Where it is not sure, it does not cut: a piece that is too large is only slower. No DOM in here.

// A list, a table or a paragraph is cut between two items, rows or lines when a piece has grown to this (characters):
// parsing and drawing so much takes some 5 ms on a laptop.
const ENOUGH = 2000;
// A table with a head that is longer, or with more cells in a piece, is not cut: its rows are filled up.
const LONGEST_HEAD = 1000;
const MOST_CELLS = 4000;

const FENCE = /^( {0,3})(`{3,}|~{3,})([^\n]*)$/;
// A fence inside of a list, after whatever stands before it there.
const INNER_FENCE = /^(?:[ \t>]|[-*+][ \t]|\d{1,9}[.)][ \t])*(`{3,}|~{3,})([^\n]*)/;
const MARKER = /^(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)/;
const HEADING = /^#{1,6}(?:[ \t]|$)/;
const DELIMITERS = /^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
// What a line that is still being written can begin with and never become a list, a fence or a table.
const SURE = /^[\p{L}"'(*]*\p{L}/u;

/**
 * @typedef {object} Piece
 * @property {string} raw
 * @property {"code" | "prose"} kind
 * @property {string | null} language of code
 * @property {string} text of code: what is inside its fence
 * @property {string} head of a table's further rows: the lines that they need before them
 * @property {boolean} more the same list or table goes on from the piece before
 */

/**
 * `after`: {more, head} of the piece that the text begins with, where it is the rest of a longer one.
 * @returns {Piece[]}
 */
export function pieces(text, after) {
  const cutter = new Cutter(text, after);
  for (let at = 0; at < text.length; ) {
    const newline = text.indexOf("\n", at);
    const end = newline < 0 ? text.length : newline + 1;
    cutter.line(text.slice(at, newline < 0 ? end : newline), at, end, newline >= 0);
    at = end;
  }
  return cutter.done();
}

/** The parts of a line that opens a fence, else null. */
function fenceOf(line) {
  const found = FENCE.exec(line);
  return found && !(found[2][0] === "`" && found[3].includes("`")) ? found : null;
}

class Cutter {
  #text;
  #found = [];
  #start = 0;
  #lines = 0; // of the piece so far
  #blank = false; // the line before was empty
  #heading = false; // or a heading
  #list = false; // the piece is a list
  #head = ""; // the piece is a table with this head
  #first = ""; // the piece's first line
  #signs = new Map(); // how often the piece has each sign that may open something
  #more = false;
  #fence = null; // {mark, length, indent, language, open} inside of one; `open`: where its text begins

  constructor(text, { more = false, head = "" } = {}) {
    this.#text = text;
    this.#more = more;
    this.#head = head;
  }

  line(line, at, end, whole) {
    if (this.#fence) return this.#inside(line, at, end, whole);
    if (!line.trim()) {
      this.#blank = true;
      return;
    }
    const sure = whole || SURE.test(line);
    const opens = whole ? fenceOf(line) : null;
    if (this.#lines > 0 && sure) this.#cutBefore(line, at, opens !== null);
    if (this.#lines === 0) this.#first = line;
    if (opens && !this.#list) this.#open(opens, end);
    else if (whole) this.#note(line, end);
    for (const sign of line.match(/[*_`~$[\]]/g) ?? []) this.#signs.set(sign, (this.#signs.get(sign) ?? 0) + 1);
    this.#lines += 1;
    this.#blank = false;
    this.#heading = whole && HEADING.test(line);
  }

  #cutBefore(line, at, fence) {
    const large = at - this.#start >= ENOUGH;
    const marked = MARKER.test(line);
    if (this.#list) {
      if (marked ? large : this.#blank && !/^[ \t]/.test(line)) this.#cut(at, marked);
    } else if (this.#head && !this.#blank) {
      const cells = this.#head.split("|").length * this.#lines;
      const small = this.#head.length <= LONGEST_HEAD && cells <= MOST_CELLS;
      if (large && small && line.includes("|")) this.#cut(at, true, this.#head);
    } else if (large && !this.#blank && !this.#first.startsWith(">") && this.#closed() && /^[\p{L}\d"(]/u.test(line)) {
      this.#cut(at, true); // a paragraph of thousands of characters, between two of its lines
    } else if (fence || HEADING.test(line) || this.#heading || (this.#blank && !/^(?: {4}|\t)/.test(line))) {
      this.#cut(at);
    }
  }

  /** True where nothing seems to be open that a later line could close. */
  #closed() {
    const count = (sign) => this.#signs.get(sign) ?? 0;
    return ["*", "_", "`", "~", "$"].every((sign) => count(sign) % 2 === 0) && count("[") === count("]");
  }

  /** What the line says about the piece that it is in. */
  #note(line, end) {
    if (this.#lines === 0 && MARKER.test(line.replace(/^ {1,3}/, ""))) this.#list = true;
    if (this.#lines === 1 && !this.#head && this.#first.includes("|") && line.includes("-") && DELIMITERS.test(line)) {
      this.#head = this.#text.slice(this.#start, end);
    }
    // An empty line ends a quote and a fence in it, but not a list.
    const inner = this.#list ? INNER_FENCE.exec(line) : null;
    if (inner && !inner[2].includes(inner[1][0])) this.#fence = { mark: inner[1][0], length: inner[1].length, inner: true };
  }

  #open([, indent, mark, info], end) {
    const language = info.trim().split(/\s/, 1)[0];
    this.#fence = { mark: mark[0], length: mark.length, indent: indent.length, language, open: end };
  }

  #inside(line, at, end, whole) {
    const { mark, length, inner } = this.#fence;
    const bare = line.replace(inner ? /^[ \t>]*/ : /^ {0,3}/, "").trimEnd();
    const closes = whole || at + line.length === this.#text.length;
    if (!closes || bare.length < length || bare !== mark.repeat(bare.length)) return;
    if (inner) this.#fence = null;
    else this.#code(at, end);
    this.#blank = false;
  }

  /** The fence ends: what is inside of it goes up to `until`. */
  #code(until, end) {
    const { indent, language, open } = this.#fence;
    const raw = this.#text.slice(this.#start, end);
    const inside = this.#text.slice(open, until);
    const text = indent ? inside.replace(new RegExp(`^ {1,${indent}}`, "gm"), "") : inside;
    this.#found.push({ raw, kind: "code", language, text, head: "", more: false });
    this.#begin(end);
  }

  #cut(at, more = false, head = "") {
    this.#prose(at);
    this.#begin(at);
    this.#more = more;
    this.#head = head;
  }

  #prose(end) {
    const raw = this.#text.slice(this.#start, end);
    const head = this.#more ? this.#head : "";
    this.#found.push({ raw, kind: "prose", language: null, text: "", head, more: this.#more });
  }

  #begin(at) {
    this.#start = at;
    this.#lines = 0;
    this.#blank = this.#heading = this.#list = this.#more = false;
    this.#head = "";
    this.#fence = null;
    this.#signs.clear();
  }

  done() {
    const end = this.#text.length;
    if (this.#fence && !this.#fence.inner) this.#code(end, end);
    else if (this.#text.slice(this.#start).trim()) this.#prose(end);
    else if (this.#found.length) this.#found.at(-1).raw += this.#text.slice(this.#start);
    return this.#found;
  }
}
