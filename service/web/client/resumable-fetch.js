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
 * @param {number} [options.patience] milliseconds without progress after which a drop is shown
 * @param {number} [options.silence] milliseconds without a byte after which a line is taken for dead: proxies may keep one
 *   open whose other end is gone. Three heartbeats (CHAT_HEARTBEAT_SECONDS) without it
 * @param {typeof globalThis.fetch} [options.fetch]
 * @returns {typeof globalThis.fetch}
 */
export function resumableFetch({ resetStep = false, patience = 60_000, silence = 45_000, fetch } = {}) {
  return async (input, init = {}) => {
    const ask = fetch ?? globalThis.fetch;
    const headers = new Headers(init.headers);
    if (resetStep) headers.set("x-accept-chunks", "reset-step");
    const posts = init.method === "POST";
    if (posts && !headers.has("idempotency-key")) headers.set("idempotency-key", randomKey());
    // Before there is anything to lose, a failure is shown soon.
    const sending = new Retries(Math.min(patience, 10_000), init.signal);
    const response = await persist(() => ask(input, { ...init, headers }), sending);
    const streams = response.headers.get("content-type")?.startsWith("text/event-stream");
    if (!response.ok || !response.body || !streams) return response;
    const url = posts ? streamUrl(String(input), JSON.parse(init.body).id) : input;
    for (const name of ["content-type", "idempotency-key"]) headers.delete(name);
    const again = (lastId) => {
      if (lastId) headers.set("last-event-id", lastId);
      return ask(url, { ...init, method: "GET", body: undefined, headers });
    };
    const body = splice(response.body, again, new Retries(patience, init.signal), silence);
    return new Response(body, { status: response.status, headers: response.headers });
  };
}

/** One body out of many: whole events only, each once. */
function splice(body, again, retries, silence) {
  let reader = body.getReader();
  let decoder = new TextDecoder();
  const encoder = new TextEncoder();
  let rest = "";
  let lastId = "";

  /** False when there is nothing more. */
  async function reconnect() {
    await retries.pause();
    const response = await persist(() => again(lastId), retries);
    if (response.status === 204) return false;
    if (!response.ok) throw new TypeError(`network error: ${await response.text()}`);
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
        retries.progress();
        controller.enqueue(encoder.encode(events));
        if (/^data: \[DONE\]$/m.test(events)) {
          controller.close();
          reader.cancel().catch(() => {});
        }
        return;
      }
    },
    cancel(reason) {
      return reader.cancel(reason);
    },
  });
}

/** Ask until there is an answer that is not a passing failure of the network or of a replica. */
export async function persist(ask, retries) {
  for (;;) {
    let seconds;
    try {
      const response = await ask();
      if (![502, 503, 504].includes(response.status) || retries.over()) return response;
      await response.body?.cancel();
      seconds = Number(response.headers.get("retry-after"));
    } catch (error) {
      if (retries.over(error)) throw error;
    }
    await retries.pause(seconds);
  }
}

/** How long to go on, and how long to wait in between. */
export class Retries {
  constructor(patience, signal) {
    this.patience = patience;
    this.signal = signal;
    this.progress();
  }

  progress() {
    this.since = Date.now();
    this.tries = 0;
  }

  over(error) {
    return this.signal?.aborted || error?.name === "AbortError" || Date.now() - this.since > this.patience;
  }

  /** At once the first time, then up to 5 s, spread so that many pages do not come back together. */
  async pause(seconds) {
    const longest = this.tries++ ? Math.min(5000, 125 * 2 ** this.tries) : 0;
    const wait = seconds ? seconds * 1000 : longest * (0.5 + Math.random() / 2);
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, wait);
      this.signal?.addEventListener("abort", () => resolve(clearTimeout(timer)), { once: true });
    });
    this.signal?.throwIfAborted();
  }
}

function streamUrl(api, id) {
  const [path, query] = api.split("?", 2);
  return `${path.replace(/\/$/, "")}/${encodeURIComponent(id)}/stream${query ? `?${query}` : ""}`;
}

function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
