// Server-Sent Events out of a response body: bytes in, whole events out, nothing half.

/**
 * Feed it text; it gives the events that are complete. An event has {name, data, id};
 * `retry` is the server's last wish for the pause before a reconnect, in ms.
 */
export class SseParser {
  #rest = "";
  retry = null;

  feed(text) {
    const blocks = (this.#rest + text).split("\n\n");
    this.#rest = blocks.pop();
    return blocks.map((block) => this.#event(block)).filter((event) => event.data !== null);
  }

  #event(block) {
    const event = { name: "message", data: null, id: null };
    for (const line of block.split("\n")) {
      const colon = line.indexOf(":");
      if (colon <= 0) continue; // a comment, such as a heartbeat
      const field = line.slice(0, colon);
      const value = line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
      if (field === "event") event.name = value;
      else if (field === "data") event.data = event.data === null ? value : `${event.data}\n${value}`;
      else if (field === "id") event.id = Number(value);
      else if (field === "retry") this.retry = Number(value);
    }
    return event;
  }
}

/** The events of a response, as they come. `onBytes` is called for heartbeats too. */
export async function* events(response, { onBytes, onRetry }) {
  const parser = new SseParser();
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      onBytes();
      const found = parser.feed(decoder.decode(value, { stream: true }));
      if (parser.retry !== null) onRetry(parser.retry);
      yield* found;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
