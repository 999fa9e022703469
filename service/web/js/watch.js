// What happens in the open session elsewhere: another tab, a phone. One stream of events, which the page
// closes while it follows an answer (that is a stream too) and while nobody sees it. No DOM in here.

import { ApiError } from "./api.js";
import { events } from "./sse.js";

const FIRST_MS = 1000;
const TOP_MS = 30_000;
// Heartbeats come every 15 s.
const SILENCE_MS = 45_000;
const STALE_MS = 20_000;

export class Watch {
  #api;
  #on;
  #session = null;
  #controller = null;
  #last = null; // id of the state that is known
  #heardAt = 0; // by the clock on the wall, which goes on while a machine sleeps
  #cut = () => {};

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

  /** The world has changed (back online, awake): a line that may be dead is made anew, a pause ends. */
  nudge() {
    if (Date.now() - this.#heardAt > STALE_MS) this.#cut();
  }

  close() {
    this.#controller?.abort();
    this.#controller = null;
  }

  async #run(session, controller) {
    const { signal } = controller;
    for (let tries = 0; !signal.aborted; ) {
      let wait;
      try {
        wait = (await this.#read(session, signal, () => (tries = 0))) ?? FIRST_MS;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ApiError && [401, 403, 404, 405].includes(error.status)) {
          this.#controller = null; // gone, not offered here, or not for us
          if (error.code === "session_not_found") this.#on.deleted();
          return;
        }
        wait = (error.retryAfter ?? 0) * 1000 || Math.min(TOP_MS, FIRST_MS * 2 ** tries++);
      }
      await this.#pause(wait, signal);
    }
  }

  #pause(ms, signal) {
    this.#heardAt = 0;
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms * (0.75 + Math.random() / 2));
      this.#cut = () => resolve(clearTimeout(timer));
      signal.addEventListener("abort", this.#cut, { once: true });
    });
  }

  /** Until the stream ends; resolves to the pause (ms) that the server wishes for. */
  async #read(session, signal, heard) {
    const cut = new AbortController();
    this.#cut = () => cut.abort();
    this.#heardAt = Date.now();
    const headers = { Accept: "text/event-stream" };
    const path = `v1/sessions/${encodeURIComponent(session)}/events?after=${this.#last ?? 0}`;
    const response = await this.#api.fetch("GET", path, { headers, signal: AbortSignal.any([signal, cut.signal]) });
    let watchdog;
    let retry = null;
    const onBytes = () => {
      heard();
      this.#heardAt = Date.now();
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
