// OpenAI's SDK for node and its Responses: the raw loop, the helper that checks what it reads, reading on.
import OpenAI from "openai";

const MODEL = "openai/gpt-oss-120b";

function client(url) {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
}

function text(events) {
  return events.map(({ type, delta }) => (type === "response.output_text.delta" ? delta : "")).join("");
}

async function all(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

/** A background response, read raw, and the rest of it from its fifth event on. */
export async function raw({ url, message }) {
  const { responses } = client(url);
  const whole = await all(
    await responses.create({ model: MODEL, input: message, stream: true, background: true }),
  );
  const seen = whole.slice(0, 5);
  const query = { stream: true, starting_after: seen.at(-1).sequence_number };
  const rest = await all(await responses.retrieve(seen[0].response.id, query));
  return { text: text(whole), same: JSON.stringify([...seen, ...rest]) === JSON.stringify(whole) };
}

/** It throws for events that it does not know, and for indexes and ids that do not fit. */
export async function helper({ url, message, ...options }) {
  const runner = client(url).responses.stream({ model: MODEL, input: message, ...options });
  try {
    const events = await all(runner);
    const final = await runner.finalResponse();
    const again = client(url).responses.stream({ response_id: final.id });
    await all(again);
    const { output_text: replayed } = await again.finalResponse();
    const { status, output, output_text: said } = final;
    return { deltas: text(events), text: said, replayed, status, kinds: output.map(({ type }) => type) };
  } catch (error) {
    return { error: error.message };
  }
}

/** Three rounds in a chain, then a stop. */
export async function chain({ url }) {
  const { responses } = client(url);
  let previous_response_id;
  const said = [];
  for (const word of ["one", "two", "three"]) {
    const answer = await responses.create({ model: MODEL, input: `[[say=${word}]]`, previous_response_id });
    previous_response_id = answer.id;
    said.push(answer.output_text);
  }
  const slow = await responses.create({ model: MODEL, input: "[[tokens=900 rate=30]]", background: true });
  return { said, status: (await responses.cancel(slow.id)).status };
}
