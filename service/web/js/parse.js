// Markdown to blocks, within a bounded time. No DOM in here: markdown.js makes that of them.

import { Marked } from "../vendor/marked/marked.esm.js";
import { formulas } from "./formulas.js";

// Prose needs 1.6 µs a character on a laptop, and a phone four times that. There are texts for which
// marked needs seconds to minutes per 100 kB (`_a_ `, `a_b`, lines of `a` and `-`): its work grows
// with the square of a paragraph. What is not parsed in this time is shown as the text it is, unless it has so few
// characters that it cannot take long: then it was the machine that stood still.
const LEAST_MS = 200;
const MS_PER_CHARACTER = 0.005;
const FEW = 1000;

class OutOfTime extends Error {}

let deadline = Infinity;

// Asked before every token of its level; it makes none, and gives up when the time has passed.
const clock = (level) => ({
  name: `clock-${level}`,
  level,
  tokenizer() {
    if (performance.now() > deadline) throw new OutOfTime();
  },
});

// Each row is filled up to the width of the head: 250 short rows under 10,000 columns took 11 s.
const MOST_CELLS = 20_000;

const tokenizer = {
  table(src) {
    const head = src.slice(0, src.indexOf("\n") + 1);
    const columns = head.split("|").length;
    if (columns === 1) return false;
    const rows = src.slice(0, /\n[ \t]*\n/.exec(src)?.index).split("\n").length;
    return columns * rows > MOST_CELLS ? undefined : false; // no table, or as marked has it
  },
};

/** A parser with renderers of one's own; `draw(tex, display, raw)` is that of formulas. */
export function parser(renderer, draw = (tex, display, raw) => raw) {
  // The clock has to be asked first: marked asks the extension that came last before the others.
  const extensions = [formulas(draw), clock("block"), clock("inline")];
  return new Marked({ gfm: true, renderer, tokenizer }, { extensions });
}

/** A text that is shown as it is; `costly` says that a longer one need not be tried. */
export const plain = (text, costly = false) => Object.assign([{ type: "text", raw: text, text }], { costly });

/**
 * The top-level blocks of a text (its line ends being \n); joined, their `raw` is the text.
 * `links`: what references mean that are defined elsewhere.
 */
export function blocks(marked, text, links = {}) {
  deadline = text.length > FEW ? performance.now() + LEAST_MS + text.length * MS_PER_CHARACTER : Infinity;
  try {
    const lexer = new marked.Lexer(marked.defaults);
    Object.assign(lexer.tokens.links, links);
    return lexer.lex(text);
  } catch (error) {
    if (error instanceof OutOfTime) return plain(text, true);
    if (error instanceof RangeError) return plain(text); // nested too deep for a parser
    throw error;
  } finally {
    deadline = Infinity;
  }
}

const DEFINITIONS = /^ {0,3}\[[^\]\n]{1,200}\]:[ \t]*\S[^\n]*$/gm;

/** What the references of a text mean, by name. */
export function definitions(marked, text) {
  const lines = text.match(DEFINITIONS);
  return lines ? { ...blocks(marked, lines.slice(0, 500).join("\n\n")).links } : {};
}
