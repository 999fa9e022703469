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

  calls = []; // of tools: {id, name, arguments, result?}

  base = ""; // what was said before this turn, which goes on with it
  callsBefore = 0; // and how many tools were called
  #unsure = false; // whether it does go on with that: its first event says so

  static from({ last = 0, text = "", reasoning = "", base = "", calls = [], callsBefore = 0 } = {}) {
    return Object.assign(new Answer(), { last, text, reasoning, base, calls, callsBefore });
  }

  /** The rest of an answer that has this already; not `sure`: it may be the turn's own, which ended a moment ago. */
  static after({ text, calls = [] }, sure = true) {
    const answer = Answer.from({ text, base: text, calls: [...calls], callsBefore: calls.length });
    answer.#unsure = !sure;
    return answer;
  }

  /** True where it goes on with an answer that was there before its turn. */
  get goesOn() {
    return this.base !== "" || this.callsBefore > 0;
  }

  get ended() {
    return this.state !== "running";
  }

  /** What is needed to go on later. */
  snapshot() {
    const { last, text, reasoning, base, calls, callsBefore } = this;
    return { last, text, reasoning, base, calls, callsBefore };
  }

  /** Take an event in. Names that are not known are skipped; an id that was seen changes nothing. */
  apply({ name, data, id }) {
    if (id !== null && id <= this.last) return;
    const body = JSON.parse(data);
    if (name === "turn.started") this.#begin(body);
    else if (name === "delta") this.text += body.text;
    else if (name === "reasoning") this.reasoning += body.text;
    else if (name === "attempt.started") this.model = body.model;
    else if (name === "tool_call") this.#call(body);
    else if (name === "turn.restarted") this.#clear();
    else if (name in TERMINAL) this.#end(TERMINAL[name], body);
    if (id !== null) this.last = id;
  }

  #begin({ message_id: continued }) {
    if (!continued && this.#unsure) Object.assign(this, { text: "", base: "", calls: [], callsBefore: 0 });
    this.#unsure = false;
  }

  /** A piece of a call; pieces of the same index belong together. */
  #call({ index = 0, id, function: { name = "", arguments: given = "" } = {} }) {
    const call = (this.calls[this.callsBefore + index] ??= { id: "", name: "", arguments: "" });
    if (id) call.id = id;
    call.name += name ?? "";
    call.arguments += given ?? "";
  }

  /** What was said in this turn is void. */
  #clear() {
    [this.text, this.reasoning] = [this.base, ""];
    this.calls.length = this.callsBefore;
  }

  /** All of it, from its first event. */
  again() {
    this.last = 0;
    this.#clear();
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
