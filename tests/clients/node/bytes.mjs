// A stream of the service that breaks at each of its bytes in turn: what the package makes of it.
import { followTurn, resumableFetch } from "../../../service/web/client/index.js";

/** A fetch whose first stream breaks after so many bytes; the later ones are the service's. */
function breaking(place) {
  let whole = true;
  return async (input, init) => {
    const response = await fetch(input, init);
    if (!whole) return response;
    whole = false;
    const bytes = new Uint8Array(await response.arrayBuffer()).slice(0, place);
    const body = new ReadableStream({
      pull(controller) {
        if (bytes.length && !controller.told) controller.enqueue(bytes);
        if (controller.told || !bytes.length) controller.error(new TypeError("network error"));
        controller.told = true;
      },
    });
    return new Response(body, { status: response.status, headers: response.headers });
  };
}

/** The places, each or each third, at which something else came out than without a break. */
async function differing(length, whole, read, step = 1) {
  const found = [];
  for (let place = 0; place < length; place += step) {
    const got = await read(breaking(place)).catch(String);
    if (got !== whole) found.push([place, got.slice(-300)]);
  }
  return { length, differing: found };
}

/** A send of the AI SDK under one key: each repeat is the same answer. */
export async function chat({ url, body }) {
  const init = { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json", "idempotency-key": "k" } };
  const read = async (ask) => (await resumableFetch({ fetch: ask })(`${url}/api/chat`, init)).text();
  const whole = await read(fetch);
  return { whole, ...(await differing(new TextEncoder().encode(whole).length, whole, read, 3)) };
}

/** The events of a turn that is over. */
export async function turn({ url }) {
  const read = async (ask) => {
    const events = [];
    for await (const event of followTurn(url, { fetch: ask })) events.push(event);
    return JSON.stringify(events);
  };
  const { byteLength } = await (await fetch(url, { headers: { accept: "text/event-stream" } })).arrayBuffer();
  const whole = await read(fetch);
  return { whole, ...(await differing(byteLength, whole, read)) };
}
