/**
 * A `fetch` for the AI SDK's transports that survives drops: the page sees one stream.
 *
 *     import { resumableFetch } from "https://chat.example.com/client/resumable-fetch.js";
 *     new DefaultChatTransport({ api, fetch: resumableFetch() })
 *
 * Every chunk carries an id. When the connection breaks, or ends before `[DONE]`, the stream is
 * asked for again with the last id seen and goes on exactly there, on any replica. A send gets an
 * Idempotency-Key, so one whose answer never came is repeated without asking twice. Works with
 * every version of the AI SDK (it never sees what happens); stop() and errors are left as they are.
 *
 * An answer that a lost worker left in pieces may be begun again. With `resetStep` (AI SDK 7, from
 * the version that knows `reset-step`) its text is replaced in the stream. Without it the stream
 * ends as after a drop (`isDisconnect`), and `resumeStream()` brings the new text.
 *
 * @param {object} [options]
 * @param {boolean} [options.resetStep] the SDK in use knows the chunk `reset-step`
 * @param {number} [options.patience] milliseconds of vain attempts after which a drop is shown
 * @param {number} [options.silence] milliseconds without a byte after which a line is taken for dead: proxies may keep one
 *   open whose other end is gone. Three heartbeats (CHAT_HEARTBEAT_SECONDS) without it
 * @param {HeadersInit | ((asked: { refused: boolean }) => HeadersInit | Promise<HeadersInit>)} [options.headers] for each
 *   request, also those after drops; a function is asked each time, after a 401 once more with `refused`
 * @param {typeof globalThis.fetch} [options.fetch]
 * @returns {typeof globalThis.fetch}
 */
export function resumableFetch({ resetStep = false, patience = 60_000, silence = 45_000, headers: own, fetch } = {}) {
  const ask = asking(own, fetch);
  return async (input, init = {}) => {
    const headers = new Headers(init.headers);
    if (resetStep) headers.set("x-accept-chunks", "reset-step");
    const posts = init.method === "POST";
    if (posts && !headers.has("idempotency-key")) headers.set("idempotency-key", randomKey());
    const first = () => ask(input, { ...init, headers });
    // Before there is anything to lose, a failure is shown soon.
    const response = await persist(first, new Retries(Math.min(patience, 10_000), init.signal));
    const streams = response.headers.get("content-type")?.startsWith("text/event-stream");
    const url = posts ? streamUrl(String(input), init.body) : input;
    if (!response.ok || !response.body || !streams || !url) return response;
    const gone = linked(init.signal);
    const again = (lastId) => {
      if (!lastId) return answered(silence, gone.signal, (signal) => ask(input, { ...init, headers, signal }));
      const asked = new Headers(headers);
      for (const name of ["content-type", "idempotency-key"]) asked.delete(name);
      asked.set("last-event-id", lastId);
      const rest = { ...init, method: "GET", body: undefined, headers: asked };
      return answered(silence, gone.signal, (signal) => ask(url, { ...rest, signal }));
    };
    const body = splice(response.body, again, new Retries(patience, gone.signal), silence, gone);
    return new Response(body, { status: response.status, headers: response.headers });
  };
}

/** One body out of many: whole events only, each once. Who leaves it ends what is under way for it (`gone`). */
function splice(body, again, retries, silence, gone) {
  let reader = body.getReader();
  let decoder = new TextDecoder();
  const encoder = new TextEncoder();
  let rest = "";
  let lastId = "";

  /** False when there is nothing more. */
  async function reconnect() {
    await retries.pause();
    const response = await persist(() => again(lastId), retries, LATER);
    if (response.status === 204) return false;
    if (!response.ok) throw refusal(response.status, await response.text());
    reader = response.body.getReader();
    decoder = new TextDecoder();
    rest = "";
    return true;
  }

  return new ReadableStream({
    async pull(controller) {
      for (;;) {
        let read;
        let cut = new TypeError("network error: the stream ended early");
        const watchdog = setTimeout(() => reader.cancel().catch(() => {}), silence);
        try {
          read = await reader.read();
        } catch (error) {
          cut = error;
        } finally {
          clearTimeout(watchdog);
        }
        if (!read || read.done) {
          if (retries.over(cut)) throw cut;
          if (await reconnect()) continue;
          return controller.close();
        }
        rest += decoder.decode(read.value, { stream: true });
        const end = rest.lastIndexOf("\n\n") + 2;
        if (end < 2) continue;
        const events = rest.slice(0, end);
        rest = rest.slice(end);
        const ids = [...events.matchAll(/^id: (.+)$/gm)];
        if (ids.length) lastId = ids.at(-1)[1];
        retries.progress(ids.length > 0);
        controller.enqueue(encoder.encode(events));
        if (/^data: \[DONE\]$/m.test(events)) {
          controller.close();
          reader.cancel().catch(() => {});
        }
        return;
      }
    },
    cancel(reason) {
      gone.abort(reason);
      reader.cancel(reason).catch(() => {});
    },
  });
}

// What is over in a while: a replica that is leaving or full; for those who come back, many of one address at once too.
const PASSING = [502, 503, 504];
export const LATER = [429, ...PASSING];

/** The text so far is void (410), or the store has lost it (409): the SDK takes that for a drop, and `resumeStream()` helps. */
function refusal(status, text) {
  return status === 409 || status === 410 ? new TypeError(`network error: ${text}`) : new Error(text);
}

/** A fetch with headers of one's own; a function is asked for them each time, once more where they are refused. */
export function asking(headers, fetch) {
  const changes = typeof headers === "function";
  const ask = async (url, init, refused) => {
    const all = new Headers(init.headers);
    new Headers(changes ? await headers({ refused }) : headers).forEach((value, name) => all.set(name, value));
    return (fetch ?? globalThis.fetch)(url, { ...init, headers: all });
  };
  return async (url, init) => {
    const response = await ask(url, init, false);
    if (response.status !== 401 || !changes) return response;
    await response.body?.cancel();
    return ask(url, init, true);
  };
}

/** The answer of `ask`, whose head has to come in so many milliseconds. */
export async function answered(silence, signal, ask) {
  const line = linked(signal);
  const watchdog = setTimeout(() => line.abort(new TypeError("network error: no answer")), silence);
  try {
    return await ask(line.signal);
  } finally {
    clearTimeout(watchdog);
  }
}

/** A controller that `signal` aborts too (AbortSignal.any is younger than browsers that are in use). */
export function linked(signal) {
  const controller = new AbortController();
  const abort = () => controller.abort(signal.reason);
  if (signal?.aborted) abort();
  signal?.addEventListener("abort", abort, { once: true });
  return controller;
}

/** Ask until there is an answer that is not a passing failure of the network or of a replica. */
export async function persist(ask, retries, passing = PASSING) {
  for (;;) {
    let seconds;
    try {
      const response = await ask();
      seconds = Number(response.headers.get("retry-after"));
      if (!passing.includes(response.status) || retries.over() || seconds * 1000 > retries.patience) return response;
      await response.body?.cancel();
    } catch (error) {
      if (retries.over(error)) throw error;
    }
    await retries.pause(seconds);
  }
}

/** How long to go on after progress, and how long to wait in between. */
export class Retries {
  constructor(patience, signal) {
    this.patience = patience;
    this.signal = signal;
    this.progress();
  }

  /** A heartbeat is a sign of life; but who gets no further than to it is not to come back at once each time. */
  progress(further = true) {
    this.failed = undefined;
    this.spent = 0;
    if (further) this.tries = 0;
  }

  /** Asked at each failure. A machine that slept has not waited: no step counts for more than half of the patience. */
  over(error) {
    this.signal?.throwIfAborted();
    const now = performance.now();
    this.spent += Math.min(now - (this.failed ?? now), this.patience / 2);
    this.failed = now;
    return error?.name === "AbortError" || this.spent > this.patience;
  }

  /** At once the first time, then up to 5 s, spread so that many pages do not come back together. */
  async pause(seconds) {
    this.signal?.throwIfAborted();
    const longest = this.tries++ ? Math.min(5000, 125 * 2 ** this.tries) : 0;
    const wait = seconds ? seconds * 1000 : longest * (0.5 + Math.random() / 2);
    await new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.signal?.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, wait);
      this.signal?.addEventListener("abort", done);
    });
    this.signal?.throwIfAborted();
  }
}

/** Where the answer to a send can be read on; undefined where the body is not one of the AI SDK's. */
function streamUrl(api, body) {
  const id = typeof body === "string" && body.startsWith("{") && JSON.parse(body).id;
  const [path, query] = api.split("?", 2);
  if (id) return `${path.replace(/\/$/, "")}/${encodeURIComponent(id)}/stream${query ? `?${query}` : ""}`;
}

function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
