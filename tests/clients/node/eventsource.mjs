// The native events through the EventSource of the browsers, as an npm package.
import { EventSource } from "eventsource";

const NAMES = [
  "turn.started", "attempt.started", "delta", "reasoning", "turn.restarted", "turn.completed", "turn.stopped",
  "turn.failed",
];

/** Until the server says that there is nothing more (204), which is when an EventSource closes. */
export async function follow({ url }) {
  const seen = { events: [], text: "", opened: 0, code: null };
  const source = new EventSource(url);
  source.onopen = () => seen.opened++;
  for (const name of NAMES) {
    source.addEventListener(name, ({ data, lastEventId }) => {
      const body = JSON.parse(data);
      seen.events.push([Number(lastEventId), name]);
      if (name === "delta") seen.text += body.text;
      if (name === "turn.restarted") seen.text = "";
    });
  }
  await new Promise((resolve) => {
    source.onerror = (error) => {
      if (source.readyState !== EventSource.CLOSED) return;
      seen.code = error.code;
      resolve();
    };
  });
  return seen;
}

/** What a fetch-based client does: POST, and after a drop GET the Location with the last id. */
export async function locate({ url, session, message, cutAfter }) {
  const answer = await fetch(`${url}/v1/sessions/${session}/turns`, {
    method: "POST",
    headers: { "content-type": "application/json", "idempotency-key": "k" },
    body: JSON.stringify({ content: message }),
  });
  const seen = { text: "", ids: [], ends: [], statuses: [answer.status] };
  await read(answer, seen, cutAfter);
  const location = new URL(answer.headers.get("location"), url);
  const headers = { "last-event-id": String(seen.ids.at(-1)) };
  const rest = await fetch(location, { headers });
  seen.statuses.push(rest.status);
  await read(rest, seen, Infinity);
  const nothing = await fetch(location, { headers: { "last-event-id": String(seen.ids.at(-1)) } });
  seen.statuses.push(nothing.status);
  return seen;
}

async function read(answer, seen, events) {
  let rest = "";
  for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) {
    rest += piece;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      if (!fields.data) continue;
      seen.ids.push(Number(fields.id));
      if (fields.event === "delta") seen.text += JSON.parse(fields.data).text;
      if (fields.event.startsWith("turn.")) seen.ends.push(fields.event);
      if (--events <= 0) return;
    }
  }
}
