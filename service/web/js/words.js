// Errors, waits and times as sentences for people. No DOM and no requests in here.

// By code, where the page can say more than the server's sentence (which may hold a stale "in 2 s").
const SENTENCES = {
  rate_limited: "You have sent as many messages as your limit allows for now.",
  concurrency_limited: "You have as many answers running as your limit allows.",
  budget_exhausted: "Your token budget is used up for now.",
  upstream_rate_limited: "The model is very busy just now.",
  upstream_unavailable: "The model cannot be reached just now.",
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

export function sentence(error) {
  return SENTENCES[error.code] ?? error.message ?? "Something went wrong.";
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
