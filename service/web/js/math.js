// Formulas as MathML, by Temml, which is loaded when an answer has one. Until then, and where the TeX is
// not valid, a formula is shown as it was written. It may draw nothing but MathML: no links, no classes.

import { inSlices } from "./slices.js";
import { texts } from "./texts.js";

const FILE = new URL("../vendor/temml/temml.min.js", import.meta.url);
const STYLE = new URL("../vendor/temml/Temml-Local.css", import.meta.url);
// A formula that expands macros without an end, or draws a rule as large as the page, is not drawn.
const LIMITS = { maxExpand: 500, maxSize: [30, 30], trust: false, strict: false };

// As many formulas are kept as they were drawn: a growing paragraph has the same ones again and again.
const KEPT = 500;

let engine = null;
let loading = null;
const waiting = new Set(); // [box, tex, display]
const drawn = new Map(); // what was drawn, or null where the TeX is not valid; by display and TeX

/** Draw a formula in the place of the element that has its source; true where that took time. */
export function typeset(element, tex, display) {
  const box = document.createElement("span");
  box.className = "math";
  box.toggleAttribute("data-block", display);
  box.textContent = element.textContent;
  element.replaceWith(box);
  if (engine) return draw(box, tex, display);
  waiting.add([box, tex, display]);
  load();
  return false;
}

/** A formula that is a block of its own. */
export function displayed(tex) {
  const paragraph = document.createElement("p");
  const source = document.createElement("span");
  source.textContent = tex;
  paragraph.append(source);
  typeset(source, tex, true);
  return paragraph;
}

async function load() {
  loading ??= Promise.all([script(), style()]);
  try {
    await loading;
  } catch {
    loading = null; // offline: the next formula asks again
    return;
  }
  engine = globalThis.temml;
  const boxes = [...waiting].filter(([box]) => box.isConnected);
  waiting.clear();
  inSlices(later(boxes));
}

function* later(boxes) {
  for (const box of boxes) if (draw(...box)) yield;
}

// A classic script, which an import would not let out of its module.
const script = () => arrive(Object.assign(document.createElement("script"), { src: FILE }));
const style = () => arrive(Object.assign(document.createElement("link"), { rel: "stylesheet", href: STYLE }));

function arrive(element) {
  return new Promise((resolve, reject) => {
    element.onload = resolve;
    element.onerror = reject;
    document.head.append(element);
  });
}

function draw(box, tex, display) {
  const name = `${display} ${tex}`;
  const fresh = !drawn.has(name);
  if (fresh) keep(name, made(tex, display));
  const formula = drawn.get(name);
  if (!formula) return fresh;
  box.replaceChildren(formula.cloneNode(true));
  if (display) Object.assign(box, { tabIndex: 0, role: "group", ariaLabel: texts.formula });
  return fresh;
}

function made(tex, display) {
  const formula = document.createElement("span");
  try {
    engine.render(tex, formula, { ...LIMITS, displayMode: display, throwOnError: true, annotate: true });
    return formula.firstChild;
  } catch {
    return null;
  }
}

function keep(name, formula) {
  if (drawn.size >= KEPT) drawn.delete(drawn.keys().next().value);
  drawn.set(name, formula);
}
