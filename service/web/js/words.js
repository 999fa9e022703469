// Errors, waits and times as sentences for people. No DOM and no requests in here.

import { locale, texts } from "./texts.js";

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
    if (budget) return texts.budgetUsed[budget[2]](Number(budget[1]).toLocaleString(locale));
    if (SMALL_BUDGET.test(message)) return plainly(message);
  }
  if (code === "upstream_rate_limited" && retryAfter > BUSY_S) return texts.providerLimit;
  if (TOLD.has(code) && message) return plainly(message);
  return texts.errors[code] ?? (message || texts.anyError);
}

/** A sentence of the server's without a wait that was true when it was said. */
const plainly = (message) => message.replace(/[;,.] (?:please )?(?:try again|wait for one|there is room again)[^;]*\.?$/i, ".");

/** " Try again in 4 h 10 min. That is at 18:40.", or nothing where no wait is known. */
export function when({ retryAfter = null }, now = Date.now()) {
  if (!retryAfter) return "";
  const soon = ` ${texts.tryIn(duration(retryAfter))}`;
  return retryAfter < CLOCK_S ? soon : `${soon} ${texts.thatIs(clock(now + retryAfter * 1000, now))}`;
}

// Waits from here on (s) are told by the clock as well.
const CLOCK_S = 600;

/** "at 18:40", "tomorrow at 06:00", "on 3 December at 06:00" */
export function clock(time, now = Date.now()) {
  const hour = new Date(time).toLocaleTimeString(locale, { hour: "2-digit", minute: "2-digit" });
  const days = Math.round((new Date(time).setHours(0, 0, 0, 0) - new Date(now).setHours(0, 0, 0, 0)) / DAY);
  if (days === 0) return texts.at(hour);
  if (days === 1) return texts.tomorrowAt(hour);
  return texts.onDayAt(new Date(time).toLocaleDateString(locale, { day: "numeric", month: "long" }), hour);
}

/** Why nothing can be written to a chat in this state. */
export function unwritable(state) {
  if (state === "gone") return texts.errors.session_not_found;
  return state === "loading" ? texts.stillLoading : texts.notLoadedYet;
}

/** "3 s", "2 min", "4 h 10 min" */
export function duration(seconds) {
  const whole = Math.max(1, Math.ceil(seconds));
  if (whole < 100) return texts.seconds(whole);
  const minutes = Math.ceil(whole / 60);
  if (minutes < 100) return texts.minutes(minutes);
  const hours = Math.floor(minutes / 60);
  return minutes % 60 ? `${texts.hours(hours)} ${texts.minutes(minutes % 60)}` : texts.hours(hours);
}

const DAY = 86_400_000;

/** The heading under which a session stands in the list. */
export function day(time, now = Date.now()) {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  if (time >= midnight) return texts.today;
  if (time >= midnight - DAY) return texts.yesterday;
  if (time >= midnight - 7 * DAY) return texts.thisWeek;
  if (time >= midnight - 30 * DAY) return texts.thisMonth;
  return texts.earlier;
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

/** "14:03", of another day "3 Dec, 14:03", of another year with that. */
function stamp(time, now) {
  const year = time.getFullYear() === now.getFullYear() ? {} : { year: "numeric" };
  const date = time.toDateString() === now.toDateString() ? {} : { day: "numeric", month: "short", ...year };
  return time.toLocaleString(locale, { ...date, hour: "2-digit", minute: "2-digit" });
}

/** What stands under an answer: "gpt-oss-120b · 14:03 · 1,210 tokens" */
export function facts({ model, usage, created }, now = Date.now()) {
  if (!model) return "";
  const time = stamp(new Date(created), new Date(now));
  const tokens = usage?.total_tokens ? texts.tokens(usage.total_tokens.toLocaleString(locale)) : "";
  return [model.split("/").pop(), time, tokens].filter(Boolean).join(" · ");
}
