// What the browser keeps: the API key, who has signed in, theme and language, the model last chosen, drafts, and the sends whose
// answers are still running.
// Storage may be off or full; then nothing is kept and everything else works.

import { saidIn } from "./question.js";

const PENDING = "chat.pending.";

function read(storage, name) {
  try {
    return globalThis[storage].getItem(name);
  } catch {
    return null;
  }
}

/** True where it is kept. */
function write(storage, name, value) {
  try {
    if (value === null) globalThis[storage].removeItem(name);
    else globalThis[storage].setItem(name, value);
    return true;
  } catch {
    return false; // full or forbidden: see above
  }
}

export const apiKey = () => read("sessionStorage", "chat.key") ?? read("localStorage", "chat.key");

/** For this tab, or for this device until it is replaced. */
export function keepApiKey(key, onDevice) {
  write("sessionStorage", "chat.key", onDevice ? null : key);
  write("localStorage", "chat.key", onDevice ? key : null);
}

// Of signing in no token is kept: who it was, so that coming back takes no click, and what is needed on the way back.
export const signedIn = () => read("localStorage", "chat.signed-in");
export const keepSignedIn = (subject) => write("localStorage", "chat.signed-in", subject);
export const keepAttempt = (attempt) => write("sessionStorage", "chat.attempt", JSON.stringify(attempt));

/** The sign-in that this tab has begun; it serves once. */
export function takeAttempt() {
  const kept = read("sessionStorage", "chat.attempt");
  write("sessionStorage", "chat.attempt", null);
  return JSON.parse(kept ?? "null");
}

/** The language that was chosen, null for the browser's. */
export const keptLanguage = () => read("localStorage", "chat.language");
export const keepLanguage = (value) => write("localStorage", "chat.language", value);

export const theme = () => read("localStorage", "chat.theme");
export const keepTheme = (value) => write("localStorage", "chat.theme", value);

/**
 * The send of a session that this tab has begun and whose end it has not seen:
 * {key, body, at} from the start, `turn` once it is known, {last, text, reasoning} when the page goes.
 */
export function pending(session) {
  try {
    return JSON.parse(read("sessionStorage", PENDING + session) ?? "null");
  } catch {
    return null;
  }
}

export function keepPending(session, value) {
  const keep = (kept) => write("sessionStorage", PENDING + session, kept && JSON.stringify(kept));
  if (keep(value) || !value?.body?.content) return;
  // Its images are more than a browser keeps of a tab: the text is kept, too old to be sent again without them.
  keep({ ...value, at: 0, body: { content: saidIn(value.body.content).text } });
}

/** The model that was chosen last, for new chats. */
export const chosenModel = () => read("localStorage", "chat.model");
export const keepModel = (id) => write("localStorage", "chat.model", id);

// What is written for a chat and not sent; null is a new one. For this tab: another may write another.
const DRAFT = "chat.draft.";

export const draft = (chat) => read("sessionStorage", DRAFT + (chat ?? "")) ?? "";
export const keepDraft = (chat, text) => write("sessionStorage", DRAFT + (chat ?? ""), text || null);

/** The chats that stand on top of the list in this browser, by id. */
export const pins = () => (read("localStorage", "chat.pins") ?? "").split(" ").filter(Boolean);

/** On top, or no longer; the oldest of too many goes. */
export function pin(id, yes) {
  const others = pins().filter((other) => other !== id);
  write("localStorage", "chat.pins", [...others, ...(yes ? [id] : [])].slice(-20).join(" ") || null);
}

/** Nothing of whoever was here stays: key, drafts, pins. Theme and language may. */
export function forgetAll() {
  const [light, spoken] = [theme(), keptLanguage()];
  for (const storage of ["sessionStorage", "localStorage"]) {
    try {
      for (const name of Object.keys(globalThis[storage])) if (name.startsWith("chat.")) globalThis[storage].removeItem(name);
    } catch {
      // Off: there is nothing.
    }
  }
  keepTheme(light);
  keepLanguage(spoken);
}

// How answers are asked for: {temperature, reasoning_effort} by chat, "" is what new ones begin with,
// together with their system prompt. Of chats that were set long ago it is forgotten.
const SETTINGS = "chat.settings";
const MOST_SETTINGS = 100;

function allSettings() {
  try {
    return JSON.parse(read("localStorage", SETTINGS) ?? "{}");
  } catch {
    return {};
  }
}

export const settings = (id) => allSettings()[id ?? ""] ?? {};

/** Those that go with a message, {params}; nothing where none is set. */
export function params(id) {
  const set = Object.fromEntries(Object.entries(settings(id)).filter(([, value]) => value !== null));
  return Object.keys(set).length ? { params: set } : {};
}

export function keepSettings(id, value) {
  const { "": fresh, [id ?? ""]: was, ...others } = allSettings();
  const kept = Object.entries(others).slice(-MOST_SETTINGS);
  write("localStorage", SETTINGS, JSON.stringify({ "": fresh, ...Object.fromEntries(kept), [id ?? ""]: value }));
}
