// Formulas as MathML, by Temml, which is loaded when an answer has one. Until then, and where the TeX is
// not valid, a formula is shown as it was written. It may draw nothing but MathML: no links, no classes.

import { texts } from "./texts.js";

const FILE = new URL("../vendor/temml/temml.min.js", import.meta.url);
const STYLE = new URL("../vendor/temml/Temml-Local.css", import.meta.url);
// A formula that expands macros without an end, or draws a rule as large as the page, is not drawn.
const LIMITS = { maxExpand: 500, maxSize: [30, 30], trust: false, strict: false };

let engine = null;
let loading = null;
const waiting = new Set(); // [box, tex, display]

/** Draw a formula in the place of the element that has its source. */
export function typeset(element, tex, display) {
  const box = document.createElement("span");
  box.className = "math";
  box.toggleAttribute("data-block", display);
  box.textContent = element.textContent;
  element.replaceWith(box);
  if (engine) return draw(box, tex, display);
  waiting.add([box, tex, display]);
  load();
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
  for (const [box, tex, display] of waiting) if (box.isConnected) draw(box, tex, display);
  waiting.clear();
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
  const source = box.textContent;
  try {
    engine.render(tex, box, { ...LIMITS, displayMode: display, throwOnError: true, annotate: true });
    if (display) Object.assign(box, { tabIndex: 0, role: "group", ariaLabel: texts.formula });
  } catch {
    box.textContent = source;
  }
}
