// A turn of the native API from a cursor to its end, whatever happens to connections and workers on the way.

import { persist, Retries } from "./resumable-fetch.js";

const TERMINAL = new Set(["turn.completed", "turn.stopped", "turn.failed"]);
// The store lost what a reader has seen: what it has now is the answer, from its start.
const LOST = new Set(["cursor_ahead", "events_lost"]);
// After three heartbeats that are missing the line is dead.
const SILENCE_MS = 45_000;

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
export async function* followTurn(url, { after = 0, headers = {}, patience = 60_000, signal, fetch } = {}) {
  const retries = new Retries(patience, signal);
  for (let last = after; ; ) {
    const line = new AbortController();
    const cut = signal ? AbortSignal.any([signal, line.signal]) : line.signal;
    const request = {
      signal: cut,
      cache: "no-store",
      headers: { ...headers, accept: "text/event-stream", "last-event-id": String(last) },
    };
    try {
      const response = await persist(() => (fetch ?? globalThis.fetch)(url, request), retries);
      if (response.status === 204) return;
      if (!response.ok) {
        const problem = (await response.json().catch(() => null)) ?? {};
        if (last === 0 || !LOST.has(problem.code)) throw new TurnError(response.status, problem);
        last = 0;
        yield { id: 0, name: "turn.restarted", data: {} };
        continue;
      }
      for await (const event of eventsOf(response.body, line)) {
        if (event.id <= last) continue;
        last = event.id;
        retries.progress();
        yield event;
        if (TERMINAL.has(event.name)) return;
      }
    } catch (error) {
      if (error instanceof TurnError || signal?.aborted || retries.over()) throw error;
    } finally {
      line.abort();
    }
    if (retries.over()) throw new TypeError("network error: the events stopped before their end");
    await retries.pause();
  }
}

/** The whole events of a body; its line is cut when it stays silent. */
async function* eventsOf(body, line) {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let rest = "";
  let watchdog;
  try {
    for (;;) {
      watchdog = setTimeout(() => line.abort(), SILENCE_MS);
      const { done, value } = await reader.read();
      clearTimeout(watchdog);
      if (done) return;
      const blocks = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const fields = Object.fromEntries(block.split("\n").map((row) => [row.split(":", 1)[0], row.slice(row.indexOf(":") + 2)]));
        if (fields.id) yield { id: Number(fields.id), name: fields.event, data: JSON.parse(fields.data) };
      }
    }
  } finally {
    clearTimeout(watchdog);
  }
}
