// What the browser keeps: the API key, the theme, and the sends whose answers are still running.
// Storage may be off or full; then nothing is kept and everything else works.

const PENDING = "chat.pending.";

function read(storage, name) {
  try {
    return globalThis[storage].getItem(name);
  } catch {
    return null;
  }
}

function write(storage, name, value) {
  try {
    if (value === null) globalThis[storage].removeItem(name);
    else globalThis[storage].setItem(name, value);
  } catch {
    // Full or forbidden: see above.
  }
}

export const apiKey = () => read("sessionStorage", "chat.key") ?? read("localStorage", "chat.key");

/** For this tab, or for this device until it is replaced. */
export function keepApiKey(key, onDevice) {
  write("sessionStorage", "chat.key", onDevice ? null : key);
  write("localStorage", "chat.key", onDevice ? key : null);
}

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

export const keepPending = (session, value) =>
  write("sessionStorage", PENDING + session, value && JSON.stringify(value));
