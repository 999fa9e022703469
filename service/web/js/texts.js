// In which language the page speaks: the one that was chosen, else the first of the browser's that there is.
// A new one is a file like texts.en.js and a line in LANGUAGES.

import english from "./texts.en.js";
import { keptLanguage } from "./keep.js";

/** By their own names, in the order in which they are offered. */
export const LANGUAGES = { en: "English", de: "Deutsch" };
const OTHERS = { de: () => import("./texts.de.js") };

const spoken = globalThis.navigator?.languages ?? [];
const wished = [keptLanguage(), ...spoken].filter(Boolean);
export const language = wished.map((name) => name.split("-")[0]).find((name) => name in LANGUAGES) ?? "en";

/** For dates and numbers: the browser's own form of that language, else one of 24 hours. */
export const locale = spoken.find((name) => name.split("-")[0] === language) ?? (language === "en" ? "en-GB" : language);

/** Where a file cannot be had, English is better than nothing. */
async function read() {
  try {
    return (await OTHERS[language]?.())?.default ?? english;
  } catch {
    return english;
  }
}

export const texts = await read();

/** A text with what is between its backticks in elements of this name. */
export function marked(text, name) {
  return text.split("`").map((piece, i) => {
    if (i % 2 === 0) return piece;
    return Object.assign(document.createElement(name), { textContent: piece });
  });
}

/** Say all of a document, or of a template: `data-say` names its text, or attributes with theirs. */
export function speak(root) {
  for (const element of root.querySelectorAll("[data-say]")) {
    for (const entry of element.dataset.say.split(" ")) {
      const [name, attribute] = entry.split("@");
      if (attribute) element.setAttribute(attribute, texts[name]);
      else element.append(...marked(texts[name], element.dataset.marks ?? "code"));
    }
  }
  for (const template of root.querySelectorAll("template")) speak(template.content);
}
