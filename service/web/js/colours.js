// Colours of code, by highlight.js: its core and one file for each language, loaded when an answer has
// code in it. Until then, and for what it does not know, code is shown as it is.

import { sanitize } from "./sanitize.js";
import { inSlices } from "./slices.js";

const FOLDER = "../vendor/highlight/";
// What models write behind a fence, and the file that colours it.
const FILES = Object.fromEntries(
  [
    "bash sh shell zsh console", "c h", "cpp c++ cc hpp cxx", "csharp cs c#", "css scss sass less", "diff patch", "dockerfile docker",
    "go golang", "ini toml conf", "java", "javascript js jsx mjs cjs node", "json jsonc json5", "kotlin kt",
    "lua", "makefile make", "markdown md", "nginx", "php", "powershell ps1 pwsh", "python py python3", "r",
    "ruby rb", "rust rs", "sql postgresql mysql sqlite", "swift", "typescript ts tsx", "xml html svg xhtml vue",
    "yaml yml",
  ].flatMap((names) => names.split(" ").map((name) => [name, names.split(" ", 1)[0]])),
);

let core = null;
const languages = new Map(); // file -> true when it is there, else the elements that wait for it

/** Colour the text of an element, now or when the language has been loaded. */
export function colour(element, language) {
  const file = FILES[language.toLowerCase()];
  if (!file) return;
  const state = languages.get(file);
  if (state === true) draw(element, file);
  else if (state) state.add(element);
  else load(file, element);
}

async function load(file, element) {
  const waiting = new Set([element]);
  languages.set(file, waiting);
  try {
    const [engine, grammar] = await Promise.all([
      import(`${FOLDER}core.min.js`),
      import(`${FOLDER}languages/${file}.min.js`),
    ]);
    core ??= engine.default;
    core.registerLanguage(file, grammar.default);
  } catch {
    languages.delete(file); // offline: the next code asks again
    return;
  }
  languages.set(file, true);
  inSlices(later(waiting, file));
}

function* later(elements, file) {
  for (const element of elements) {
    if (element.isConnected) draw(element, file);
    yield;
  }
}

function draw(element, language) {
  const text = element.textContent;
  const coloured = sanitize(core.highlight(text, { language, ignoreIllegals: true }).value, ["span"], ["class"]);
  if (coloured.textContent === text) element.replaceChildren(coloured); // else it is no longer what was said
}
