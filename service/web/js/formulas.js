// Formulas in Markdown: \( \), $ $, \[ \], $$ $$ and \begin{align}, found before Markdown eats their
// backslashes. An extension of marked; what draws them is math.js. No DOM in here.

// No formula of an answer is longer (characters); what is longer is shown as it was written.
const LONGEST = 4000;

// [pattern, displayed on lines of its own]
const FORMS = [
  [/^\\\(([^]+?)\\\)/, false],
  [/^\\\[([^]+?)\\\]/, true],
  [/^\$\$((?:[^$\\]|\\[^])+?)\$\$/, true],
  // As Pandoc has it: no blank after the first sign or before the second, no letter or digit behind it.
  [/^\$(?![\s$])((?:[^$\\]|\\[^])*?(?:[^$\\\s]|\\\S))\$(?![\p{L}\d])/u, false],
  [/^(\\begin\{(align|aligned|alignat|gather|equation|cases|[bpvBV]?matrix)(\*?)\}[^]+?\\end\{\2\3\})/, true],
];
// "$5 or 6$" is money: a number and a word.
const MONEY = /^\d[\d.,]*\s+\p{L}{2,}/u;
const EMPTY_LINE = /\n[ \t]*\n/;

/** {raw, tex, display} of the formula that a text begins with, else null. */
export function formula(text) {
  const near = text.slice(0, LONGEST);
  for (const [pattern, display] of FORMS) {
    const found = pattern.exec(near);
    if (!found || EMPTY_LINE.test(found[0]) || !found[1].trim()) continue;
    if (near[0] === "$" && !display && MONEY.test(found[1])) continue;
    return { raw: found[0], tex: found[1].trim(), display };
  }
  return null;
}

/** The extension; `draw(tex, display, raw)` gives the HTML, with no `tex` that of `raw` as it is. */
export const formulas = (draw) => ({
  name: "formula",
  level: "inline",
  // marked stops at backslashes by itself.
  start(text) {
    const at = text.indexOf("$");
    return at < 0 ? undefined : at;
  },
  tokenizer(text) {
    if (text[0] !== "$" && text[0] !== "\\") return undefined;
    const found = formula(text);
    if (found) return { type: "formula", ...found };
    // One that is still being written keeps its backslash.
    return /^\\[([]/.test(text) ? { type: "formula", raw: text.slice(0, 2), tex: "", display: false } : undefined;
  },
  renderer: ({ raw, tex, display }) => draw(tex, display, raw),
});
