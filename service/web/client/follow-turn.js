// A turn of the native API from a cursor to its end, whatever happens to connections and workers on the way.

import { answered, asking, LATER, persist, Retries } from "./resumable-fetch.js";

const TERMINAL = new Set(["turn.completed", "turn.stopped", "turn.failed"]);
// The store lost what a reader has seen: what it has now is the answer, from its start.
const LOST = new Set(["cursor_ahead", "events_lost"]);

/** The service refused: `status`, and `code` of docs/api.md. */
export class TurnError extends Error {
  constructor(status, { code = "", detail = `The service answered ${status}.` } = {}) {
    super(detail);
    this.name = "TurnError";
    this.status = status;
    this.code = code;
  }
}

/** Each event once and in order, the last one included; how it is used: index.d.ts. */
export async function* followTurn(url, { after = 0, headers, patience = 60_000, silence = 45_000, signal, fetch } = {}) {
  const retries = new Retries(patience, signal);
  const ask = asking(headers, fetch);
  for (let last = after; ; ) {
    const request = { cache: "no-store", headers: { accept: "text/event-stream", "last-event-id": String(last) } };
    const again = () => answered(silence, signal, (line) => ask(url, { ...request, signal: line }));
    try {
      const response = await persist(again, retries, LATER);
      if (response.status === 204) return;
      if (!response.ok) {
        const problem = (await response.json().catch(() => null)) ?? {};
        if (last === 0 || !LOST.has(problem.code)) throw new TurnError(response.status, problem);
        last = 0;
        yield { id: 0, name: "turn.restarted", data: {} };
        continue;
      }
      for await (const event of eventsOf(response.body, silence)) {
        retries.progress(event.id > last);
        if (!(event.id > last)) continue;
        last = event.id;
        yield event;
        if (TERMINAL.has(event.name)) return;
      }
      throw new TypeError("network error: the events stopped before their end");
    } catch (error) {
      if (error instanceof TurnError || retries.over()) throw error;
    }
    await retries.pause();
  }
}

/** The whole events of a body, heartbeats too; one that stays silent, or that nobody reads on, is let go. */
async function* eventsOf(body, silence) {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let rest = "";
  let watchdog;
  const leave = () => reader.cancel().catch(() => {});
  try {
    for (;;) {
      watchdog = setTimeout(leave, silence);
      const { done, value } = await reader.read();
      clearTimeout(watchdog);
      if (done) return;
      const blocks = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const fields = Object.fromEntries(block.split("\n").map((row) => [row.split(":", 1)[0], row.slice(row.indexOf(":") + 2)]));
        yield fields.id ? { id: Number(fields.id), name: fields.event, data: JSON.parse(fields.data) } : {};
      }
    }
  } finally {
    clearTimeout(watchdog);
    leave();
  }
}
