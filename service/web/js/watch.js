// What happens in the open session elsewhere: another tab, a phone. One stream of events, which the page
// closes while it follows an answer (that is a stream too) and while nobody sees it. No DOM in here.

import { ApiError } from "./api.js";
import { events } from "./sse.js";

const FIRST_MS = 1000;
const TOP_MS = 30_000;
// Heartbeats come every 15 s.
const SILENCE_MS = 45_000;

export class Watch {
  #api;
  #on;
  #session = null;
  #controller = null;
  #last = null; // id of the state that is known

  /** on: changed(session fields), deleted() */
  constructor(api, on) {
    this.#api = api;
    this.#on = on;
  }

  /** Watch a session, from where it was left if it is the same. */
  open(session) {
    if (this.#controller && session === this.#session) return;
    this.close();
    if (session !== this.#session) this.#last = null;
    this.#session = session;
    this.#controller = new AbortController();
    this.#run(session, this.#controller);
  }

  close() {
    this.#controller?.abort();
    this.#controller = null;
  }

  async #run(session, controller) {
    const { signal } = controller;
    for (let tries = 0; !signal.aborted; ) {
      try {
        const wait = await this.#read(session, signal, () => (tries = 0));
        await pause(wait ?? FIRST_MS, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ApiError && error.code === "session_not_found") return this.#on.deleted();
        if (error instanceof ApiError && [401, 403, 404, 405].includes(error.status)) return; // not here, or not for us
        await pause((error.retryAfter ?? 0) * 1000 || Math.min(TOP_MS, FIRST_MS * 2 ** tries++), signal);
      }
    }
  }

  /** Until the stream ends; resolves to the pause (ms) that the server wishes for. */
  async #read(session, signal, heard) {
    const cut = new AbortController();
    const headers = { Accept: "text/event-stream", ...(this.#last === null ? {} : { "Last-Event-ID": String(this.#last) }) };
    const path = `v1/sessions/${encodeURIComponent(session)}/events`;
    const response = await this.#api.fetch("GET", path, { headers, signal: AbortSignal.any([signal, cut.signal]) });
    let watchdog;
    let retry = null;
    const onBytes = () => {
      heard();
      clearTimeout(watchdog);
      watchdog = setTimeout(() => cut.abort(), SILENCE_MS);
    };
    try {
      for await (const event of events(response, { onBytes, onRetry: (ms) => (retry = ms) })) {
        if (signal.aborted) break;
        if (event.id !== null) this.#last = event.id;
        if (event.name === "session.deleted") return this.#on.deleted();
        if (event.name === "session.changed") this.#on.changed(JSON.parse(event.data));
      }
    } finally {
      clearTimeout(watchdog);
    }
    return retry;
  }
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms * (0.75 + Math.random() / 2));
    signal.addEventListener("abort", () => resolve(clearTimeout(timer)), { once: true });
  });
}
