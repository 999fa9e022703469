// Errors, waits and times as sentences for people. No DOM and no requests in here.

// By code, where the page can say more than the server's sentence (which may hold a stale "in 2 s").
const SENTENCES = {
  rate_limited: "You have sent as many messages as your limit allows for now.",
  concurrency_limited: "You have as many answers running as your limit allows.",
  budget_exhausted: "Your token budget is used up for now.",
  upstream_rate_limited: "The model is very busy just now.",
  upstream_unavailable: "The model cannot be reached just now.",
  storage_full: "You keep as much as this service lets you. Delete chats that you no longer need.",
  upstream_rejected: "The model refused the request.",
  model_not_found: "This model is not offered here (any more). Choose another one.",
  message_not_found: "This message is gone: it was changed in another window.",
  misdirected_request: "The service does not answer under this address. Its operator has to name it in CHAT_HOSTS.",
  upstream_timeout: "The model took too long.",
  store_unavailable: "The service cannot reach its memory just now.",
  overloaded: "The service is at capacity just now.",
  draining: "The service is restarting.",
  unauthenticated: "The service needs an API key for this.",
  forbidden: "Your API key does not allow this.",
  turn_in_progress: "This chat is answering already, perhaps in another window.",
  session_not_found: "This chat is gone: it was deleted, or its time ran out.",
  turn_not_found: "This answer is gone: its chat was deleted, or its time ran out.",
  events_lost: "The server lost a part of this answer.",
  events_expired: "This answer is no longer kept in full.",
  context_too_long: "This message is too long for the model.",
  body_too_large: "This message is larger than the service takes.",
  unreachable: "The service cannot be reached.",
  offline: "You are offline.",
};

// Where the server knows more than the code says: which key, which model, which budget.
const TOLD = new Set(["upstream_unavailable", "upstream_rejected", "upstream_timeout", "storage_full", "internal"]);
const BUDGET = /^The budget of (\d+) tokens a (minute|day|month) is used up/;
const SMALL_BUDGET = /^The budget of .* is (?:smaller|reserved)/;
// A limit of the provider's that holds for longer than this (s) is not about being busy.
const BUSY_S = 120;

/** @param {{code: string, message?: string, retryAfter?: number | null}} error */
export function sentence(error) {
  const { code, message = "", retryAfter = null } = error;
  if (code === "budget_exhausted") {
    const budget = BUDGET.exec(message);
    if (budget) return `Your budget of ${Number(budget[1]).toLocaleString("en")} tokens a ${budget[2]} is used up.`;
    if (SMALL_BUDGET.test(message)) return plainly(message);
  }
  if (code === "upstream_rate_limited" && retryAfter > BUSY_S) return "The provider's limit for this model is used up.";
  if (TOLD.has(code) && message) return plainly(message);
  return SENTENCES[code] ?? (message || "Something went wrong.");
}

/** A sentence of the server's without a wait that was true when it was said. */
const plainly = (message) => message.replace(/[;,.] (?:please )?(?:try again|wait for one|there is room again)[^;]*\.?$/i, ".");

/** " Try again in 4 h 10 min. That is at 18:40.", or nothing where no wait is known. */
export function when({ retryAfter = null }, now = Date.now()) {
  if (!retryAfter) return "";
  const soon = ` Try again in ${duration(retryAfter)}.`;
  return retryAfter < CLOCK_S ? soon : `${soon} That is ${clock(now + retryAfter * 1000, now)}.`;
}

// Waits from here on (s) are told by the clock as well.
const CLOCK_S = 600;

/** "at 18:40", "tomorrow at 06:00", "on 3 December at 06:00" */
export function clock(time, now = Date.now()) {
  const hour = new Date(time).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const days = Math.round((new Date(time).setHours(0, 0, 0, 0) - new Date(now).setHours(0, 0, 0, 0)) / DAY);
  if (days === 0) return `at ${hour}`;
  if (days === 1) return `tomorrow at ${hour}`;
  return `on ${new Date(time).toLocaleDateString("en-GB", { day: "numeric", month: "long" })} at ${hour}`;
}

/** Why nothing can be written to a chat in this state. */
export function unwritable(state) {
  if (state === "gone") return SENTENCES.session_not_found;
  return state === "loading" ? "This chat is still being loaded." : "This chat is not loaded yet, so nothing can be added to it.";
}

/** "3 s", "2 min", "4 h 10 min" */
export function duration(seconds) {
  const whole = Math.max(1, Math.ceil(seconds));
  if (whole < 100) return `${whole} s`;
  const minutes = Math.ceil(whole / 60);
  if (minutes < 100) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
}

const DAY = 86_400_000;

/** The heading under which a session stands in the list. */
export function day(time, now = Date.now()) {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  if (time >= midnight) return "Today";
  if (time >= midnight - DAY) return "Yesterday";
  if (time >= midnight - 7 * DAY) return "This week";
  if (time >= midnight - 30 * DAY) return "This month";
  return "Earlier";
}

const TITLE_LENGTH = 60;

/** A title out of the first message: its first line, cut at a word. */
export function title(text) {
  const line = text.trim().split("\n")[0].replace(/\s+/g, " ");
  const letters = Array.from(line);
  if (letters.length <= TITLE_LENGTH) return line;
  const cut = letters.slice(0, TITLE_LENGTH).join("");
  const space = cut.lastIndexOf(" ");
  return `${space > TITLE_LENGTH / 2 ? cut.slice(0, space) : cut}…`;
}

/** What stands under an answer: "gpt-oss-120b · 14:03 · 1,210 tokens" */
export function facts({ model, usage, created }) {
  if (!model) return "";
  const time = new Date(created).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const tokens = usage?.total_tokens ? `${usage.total_tokens.toLocaleString("en")} tokens` : "";
  return [model.split("/").pop(), time, tokens].filter(Boolean).join(" · ");
}
