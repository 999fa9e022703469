// An answer as its events tell it: a small machine from events to text. No DOM, no network.

const TERMINAL = { "turn.completed": "completed", "turn.stopped": "stopped", "turn.failed": "failed" };

export class Answer {
  last = 0; // id of the last event that is in here
  text = "";
  reasoning = "";
  state = "running";
  model = null;
  error = null; // of a failed one: {code, message, retryable, retryAfter}
  usage = null;
  finishReason = null;

  base = ""; // what was said before this turn, which goes on with it

  static from({ last = 0, text = "", reasoning = "", base = "" } = {}) {
    return Object.assign(new Answer(), { last, text, reasoning, base });
  }

  /** The rest of an answer that has this text already. */
  static after(text) {
    return Answer.from({ text, base: text });
  }

  get ended() {
    return this.state !== "running";
  }

  /** What is needed to go on later. */
  snapshot() {
    return { last: this.last, text: this.text, reasoning: this.reasoning, base: this.base };
  }

  /** Take an event in. Names that are not known are skipped; an id that was seen changes nothing. */
  apply({ name, data, id }) {
    if (id !== null && id <= this.last) return;
    const body = JSON.parse(data);
    if (name === "delta") this.text += body.text;
    else if (name === "reasoning") this.reasoning += body.text;
    else if (name === "attempt.started") this.model = body.model;
    else if (name === "turn.restarted") [this.text, this.reasoning] = [this.base, ""];
    else if (name in TERMINAL) this.#end(TERMINAL[name], body);
    if (id !== null) this.last = id;
  }

  #end(state, body) {
    this.state = state;
    this.usage = body.usage ?? null;
    this.finishReason = body.finish_reason ?? null;
    if (state === "failed") this.error = { ...body, retryAfter: body.retry_after ?? null };
  }

  /** How a turn ended whose events are no longer kept. */
  settle(turn) {
    this.text = turn.text.startsWith(this.base) ? turn.text : this.base + turn.text;
    this.#end(turn.state, { usage: turn.usage, finish_reason: turn.finish_reason, ...turn.error });
  }
}
