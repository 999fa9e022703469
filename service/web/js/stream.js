// One turn to its end, whatever happens on the way: POST with one idempotency key until the service
// has answered, then GET the events after the last one that arrived. Nothing is lost or doubled,
// because the log has ids and the answer ignores those that it knows. No DOM in here.

import { ApiError } from "./api.js";
import { events } from "./sse.js";

// The server names the first pause (0.5 to 1.5 s, spread); without it, and afterwards, doubling from here.
const PAUSE_MS = 400;
const TOP_PAUSE_MS = 10_000;
// Heartbeats come every 15 s: after three that are missing the line is dead, after one it may be.
const SILENCE_MS = 45_000;
const STALE_MS = 20_000;
// Error answers in a row before somebody is asked what to do (about 40 s).
const REFUSALS = 8;
// A longer wait than this is told, not waited for.
const LONGEST_WAIT_S = 120;

export class Stream {
  #api;
  #base;
  #send;
  #on;
  #controller = new AbortController();
  #wake = null;
  #patient = false;
  #tries = 0;
  #retryMs = null;
  #heardAt = 0; // by the clock on the wall, which goes on while a machine sleeps
  #left = false;
  #expired = false;
  #stopWanted = false;

  /**
   * `send` {key, body, create?} begins a turn (in a session to be made), `turn` follows one. `on.begun(turn)`, `on.changed()` after every
   * batch of events, `on.link(null | {kind: "reconnecting" | "offline" | "waiting", error, seconds})`.
   */
  constructor({ api, session, send = null, turn = null, answer, on }) {
    this.#api = api;
    this.#base = `v1/sessions/${encodeURIComponent(session)}/turns`;
    this.#send = send;
    this.#on = on;
    this.turn = turn;
    this.answer = answer;
  }

  /** Resolves to null when the answer has ended or was left; to the ApiError that nothing here mends. */
  async run() {
    while (!this.#left && !this.answer.ended) {
      let pause;
      try {
        const response = this.#expired ? null : await this.#open();
        if (response?.status === 200) await this.#read(response);
        else await this.#settle();
        pause = this.#backoff();
      } catch (error) {
        if (this.#left) break;
        const verdict = await this.#judge(error);
        if (verdict instanceof ApiError) return verdict;
        pause = verdict;
      }
      if (this.#stopWanted && !this.turn) break; // it did not arrive, and is not wanted any more
      if (!this.answer.ended && !this.#left) await this.#sleep(pause);
    }
    this.#on.link(null);
    return null;
  }

  /** Read no more; the turn itself runs on. */
  leave() {
    this.#left = true;
    this.#controller.abort();
    this.#wake?.();
  }

  /** The world has changed (back online, awake): try at once what was waiting for the line. */
  nudge() {
    if (this.#wake) {
      if (!this.#patient) this.#wake();
    } else if (Date.now() - this.#heardAt > STALE_MS) {
      this.#controller.abort();
    }
  }

  /** Do not wait any longer, also where the service asked for it. */
  hurry() {
    this.#wake?.();
  }

  /** Stop the turn. False when it has not begun: then the stream was left. Throws ApiError. */
  async stop() {
    if (!this.turn) {
      this.#stopWanted = true;
      if (this.#wake) this.leave();
      return !this.#left;
    }
    const turn = await this.#api.json("POST", `${this.#base}/${this.turn}/stop`);
    if (!this.answer.ended) this.answer.settle(turn);
    this.#on.changed();
    this.leave();
    return true;
  }

  async #open() {
    this.#controller = new AbortController();
    const signal = this.#controller.signal;
    this.#heardAt = Date.now();
    if (this.turn) {
      const headers = { Accept: "text/event-stream", "Last-Event-ID": String(this.answer.last) };
      return this.#api.fetch("GET", `${this.#base}/${this.turn}/events`, { headers, signal });
    }
    if (this.#send.create) {
      // Repeating it is harmless: the id is ours.
      await this.#api.json("POST", "v1/sessions", { body: this.#send.create, signal });
      this.#send.create = null;
    }
    // Only where there is a session: one that was deleted or has expired is not made anew by its next message.
    const headers = { Accept: "text/event-stream", "Idempotency-Key": this.#send.key, "If-Match": "*" };
    const response = await this.#api.fetch("POST", this.#base, { body: this.#send.body, headers, signal });
    this.turn = response.headers.get("X-Turn-Id");
    this.#on.begun(this.turn);
    if (this.#stopWanted) this.stop().catch(() => {});
    return response;
  }

  async #read(response) {
    this.#on.link(null);
    let watchdog;
    const onBytes = () => {
      this.#heardAt = Date.now();
      clearTimeout(watchdog);
      watchdog = setTimeout(() => this.#controller.abort(), SILENCE_MS);
    };
    onBytes();
    try {
      for await (const event of events(response, { onBytes, onRetry: (ms) => (this.#retryMs = ms) })) {
        if (this.#left) return;
        this.#tries = 0;
        this.answer.apply(event);
        this.#on.changed();
        if (this.answer.ended) return;
      }
    } finally {
      clearTimeout(watchdog);
    }
  }

  /** The pause before the next try, or the error that ends the tries. */
  async #judge(error) {
    if (!(error instanceof ApiError) || error.status === 0) return this.#backoff();
    if (error.code === "cursor_ahead" || error.code === "events_lost") {
      // The store lost what it had confirmed: what it has now is the answer.
      this.answer.again();
      return { ms: 0 };
    }
    if (error.code === "events_expired") {
      this.#expired = true;
      return { ms: 0 };
    }
    const passing = error.status === 429 || error.status === 408 || error.status >= 500;
    if (!passing || ++this.#tries > REFUSALS || error.retryAfter > LONGEST_WAIT_S) return error;
    if (error.retryAfter === null) return error.status === 429 ? error : this.#backoff();
    return { ms: error.retryAfter * 1000, link: { kind: "waiting", error, seconds: error.retryAfter } };
  }

  #backoff() {
    const ms = this.#retryMs ?? Math.min(TOP_PAUSE_MS, PAUSE_MS * 2 ** this.#tries++) * (0.5 + Math.random() / 2);
    this.#retryMs = null;
    return { ms, link: { kind: navigator.onLine ? "reconnecting" : "offline" } };
  }

  async #sleep({ ms, link = null }) {
    this.#on.link(link);
    this.#patient = link?.kind === "waiting";
    let timer;
    await new Promise((resolve) => {
      this.#wake = resolve;
      timer = setTimeout(resolve, ms);
    });
    clearTimeout(timer);
    this.#wake = null;
  }

  /** The events are gone or were all seen: the turn itself says how it ended. */
  async #settle() {
    const turn = await this.#api.json("GET", `${this.#base}/${this.turn}`);
    if (turn.state !== "running" && turn.state !== "queued") this.answer.settle(turn);
    this.#on.changed();
  }
}
