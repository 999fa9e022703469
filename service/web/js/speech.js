// Answers read aloud, by a voice of the device: others would send the text to their maker. Where there is none, the
// page has no button for it.

import { language } from "./texts.js";

const engine = globalThis.speechSynthesis;
const own = () => engine.getVoices().filter(({ localService }) => localService);
let reading = null; // the button of what is being read

/** Show the buttons where there is a voice; voices come late. */
export function offerSpeech() {
  if (!engine) return;
  const show = () => document.documentElement.toggleAttribute("data-speaks", own().length > 0);
  engine.addEventListener("voiceschanged", show);
  addEventListener("pagehide", hush);
  show();
}

/** Read no more. */
export function hush() {
  engine?.cancel();
  reading?.setAttribute("aria-pressed", "false");
  reading = null;
}

/** Read an answer, or no longer. */
export function read(element, button) {
  const again = button !== reading;
  hush();
  if (!again) return;
  const voices = own();
  const voice = voices.find(({ lang }) => lang.startsWith(language)) ?? voices[0];
  const said = lines(element).map((line) => Object.assign(new SpeechSynthesisUtterance(line), { voice, lang: voice.lang }));
  if (!said.length) return;
  reading = button;
  button.setAttribute("aria-pressed", "true");
  said.at(-1).onend = () => button === reading && hush();
  for (const utterance of said) engine.speak(utterance);
}

/** What there is to read, a paragraph, an item or a cell each; code is not. */
function lines(element) {
  const copy = element.cloneNode(true);
  copy.querySelectorAll("figure, annotation").forEach((part) => part.remove());
  copy.querySelectorAll("p, li, h1, h2, h3, h4, h5, h6, th, td").forEach((part) => part.append("\n"));
  return copy.textContent.split("\n").map((line) => line.trim()).filter(Boolean);
}
