// Markdown that nobody vouches for, to DOM: marked parses, sanitize.js decides. HTML in the text is shown
// as text, pictures become links (a remote picture would tell its host what was said). Each paragraph,
// item and cell runs in the direction of its own letters.

import { CodeBlock } from "./code.js";
import { displayed, typeset } from "./math.js";
import { blocks as parse, definitions as defined, parser, plain } from "./parse.js";
import { sanitize } from "./sanitize.js";
import { texts } from "./texts.js";

const TAGS = [
  "p", "br", "hr", "strong", "em", "del", "s", "u", "b", "i", "mark", "sub", "sup", "kbd", "code", "pre",
  "blockquote", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6", "a",
  "table", "thead", "tbody", "tr", "th", "td",
];
const ATTRIBUTES = ["href", "title", "align", "start", "class"];
// Tags without attributes that models use on purpose; everything else in angle brackets is text.
const PLAIN_TAG = /^<\/?(?:br|b|i|u|s|em|strong|mark|sub|sup|kbd)\s*\/?>$/i;
const LANGUAGE = /^[\w+#.-]{1,30}$/;
// Formulas travel through the sanitizer as code of these languages, which no Markdown inline can have.
const FORMULA = "language-math";
const DISPLAYED = "language-math-block";
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

const escape = (text) =>
  text.replace(/[&<>"]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign]);

const marked = parser(
  {
    html: ({ text, block }) => (PLAIN_TAG.test(text.trim()) ? text : block ? `<p>${escape(text)}</p>` : escape(text)),
    image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
  (tex, display, raw) =>
    tex ? `<code class="${display ? DISPLAYED : FORMULA}" title="${escape(tex)}">${escape(raw)}</code>` : escape(raw),
);

/** What the references of a whole text mean, for `render`. */
export const definitions = (text) => defined(marked, text);

/**
 * A piece of prose as DOM, and whether parsing it was given up; in steps. `as`: "plain" for the text as it is.
 */
export function* render({ raw, head }, links, as = "markdown") {
  const node = document.createElement("div");
  node.className = "block";
  const found = as === "plain" ? plain(raw) : parse(marked, head + raw, links);
  yield;
  try {
    node.append(sanitize(marked.parser(found), TAGS, ATTRIBUTES));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    node.textContent = raw;
  }
  if (head) node.querySelector("thead")?.remove();
  for (const pre of node.querySelectorAll("pre")) yield* frame(pre);
  for (const code of node.querySelectorAll(`code[class^=${FORMULA}][title]`)) {
    if (typeset(code, code.title, code.className === DISPLAYED)) yield;
  }
  direct(node);
  node.querySelectorAll("table").forEach((table) => wrap(table, "wide", texts.table));
  return { node, costly: found.costly ?? false };
}

/** The language of a fence; "" where it names none. */
export const language = (name) => (LANGUAGE.test(name ?? "") ? name : "");

/** Code inside of something else. What is a block of its own grows in place (blocks.js). */
function* frame(pre) {
  const name = language(pre.firstElementChild?.className.replace("language-", ""));
  if (name === "math") return pre.replaceWith(displayed(pre.textContent));
  const block = new CodeBlock(name);
  yield* block.update(pre.textContent);
  pre.replaceWith(block.element);
}

/** "rtl" or "ltr" by the first letter of a text, null where it has none. */
function direction(text) {
  const letter = /\p{L}/u.exec(text)?.[0];
  return letter ? (RIGHT_TO_LEFT.test(letter) ? "rtl" : "ltr") : null;
}

/** The block runs as its first letter does, and parts of it that begin otherwise as theirs. */
function direct(node) {
  node.dir = "auto";
  const first = [...node.querySelectorAll("p, h1, h2, h3, h4, h5, h6, li, th, td")].find((part) => direction(part.textContent));
  const base = direction(first?.textContent ?? "");
  node.querySelectorAll("p, h1, h2, h3, h4, h5, h6, li, blockquote, table, th, td").forEach((part) => {
    const around = part.parentElement.closest("[dir]");
    const own = direction(part.textContent);
    if (own && own !== (around === node ? base : around.dir)) part.dir = own;
  });
}

/** Scrolls by itself where it is wider than the page, by keyboard too. */
function wrap(table, name, label) {
  const box = document.createElement("div");
  box.className = name;
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", label);
  table.replaceWith(box);
  box.append(table);
}
