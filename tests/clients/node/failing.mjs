// A service that fails as it is told to, on a clock of its own: no request leaves this process, and waits take no time.
import { Chat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { followTurn, resumableFetch } from "../../../service/web/client/index.js";
import { textOf } from "./chat.mjs";

const SILENCE = 45_000;
let now = 0;
Date.now = performance.now = () => now;

// Waits are over at once and have taken their time; a watchdog's would end what is quick here.
const { setTimeout: wait } = globalThis;
globalThis.setTimeout = (done, ms = 0) => {
  if (ms >= SILENCE) return undefined;
  now += ms;
  return wait(done, 0);
};

const TEXT = ["Zwei", " 👩‍💻", " étude", "."];

/** The answer as the AI SDK's chunks, each with its id. */
function chunks(id) {
  const list = [
    { type: "start", messageId: `m-${id}` },
    { type: "start-step" },
    { type: "text-start", id: "0" },
    ...TEXT.map((delta) => ({ type: "text-delta", id: "0", delta: `${delta}${id}` })),
    { type: "text-end", id: "0" },
    { type: "finish-step" },
    { type: "finish" },
  ];
  return [...list.map((chunk) => JSON.stringify(chunk)), "[DONE]"].map((data, i) => `data: ${data}\nid: ${id}.${i + 1}\n\n`);
}

/** The answer as the events of a turn. */
function events() {
  const list = [["turn.started", {}], ...TEXT.map((text) => ["delta", { text }]), ["turn.completed", { finish_reason: "stop" }]];
  return list.map(([name, data], i) => `event: ${name}\ndata: ${JSON.stringify(data)}\nid: ${i + 1}\n\n`);
}

/**
 * A fetch. `plan` says what becomes of each request in order: the number of events after which its stream breaks
 * ({breaks}, with {after} ms), a status, "offline" ({offline}, {after}), {until} (offline up to that time), or "hang" (no
 * head comes). After it all is well.
 */
function service(blocksOf, plan) {
  const asked = [];
  const ask = async (url, { method = "GET", headers, signal, body }) => {
    const given = Object.fromEntries(new Headers(headers));
    asked.push({ method, at: now, last: given["last-event-id"] ?? null, key: given["idempotency-key"] ?? null, token: given.authorization ?? null });
    signal?.throwIfAborted();
    let what = plan[0];
    if (what?.until > now) what = "offline";
    else plan.shift();
    if (what?.offline) now += what.after;
    if (what === "offline" || what?.offline) throw new TypeError("Failed to fetch");
    if (what === "hang") return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    if (what?.status) return new Response(what.body ?? "told", { status: what.status, headers: what.headers });
    const id = body ? JSON.parse(body).id : decodeURIComponent(String(url).split("/").at(-2));
    const last = Number((given["last-event-id"] ?? "0").split(".").at(-1));
    const rest = blocksOf(id).slice(last);
    const encoder = new TextEncoder();
    const { breaks = Infinity, after = 0 } = typeof what === "number" ? { breaks: what } : (what ?? {});
    let passed = 0;
    const stream = new ReadableStream({
      pull(controller) {
        if (passed === breaks) {
          now += after;
          return controller.error(new TypeError("network error"));
        }
        if (passed === rest.length) return controller.close();
        controller.enqueue(encoder.encode(rest[passed++]));
      },
    }, { highWaterMark: 0 });
    return new Response(stream, { headers: { "content-type": "text/event-stream" } });
  };
  return { ask, asked };
}

const headersOf = (tokens) => tokens && (({ refused }) => ({ authorization: tokens[refused ? 1 : 0] }));

/** One message, or one in each of several chats at once on one `resumableFetch`. `stops`: at that request. */
export async function send({ plan = [], options = {}, tokens, ids = ["c"], stops }) {
  now = 0;
  const { ask, asked } = service(chunks, plan);
  const fetching = resumableFetch({ ...options, headers: headersOf(tokens), fetch: ask });
  const chats = await Promise.all(
    ids.map(async (id) => {
      const finishes = [];
      const transport = new DefaultChatTransport({ api: "http://service/api/chat", fetch: fetching });
      const onFinish = ({ isAbort, isDisconnect, isError }) => finishes.push({ isAbort, isDisconnect, isError });
      const chat = new Chat({ id, transport, onFinish, onError: () => {} });
      const sending = chat.sendMessage({ text: "hi" });
      if (stops) {
        while (asked.length < stops) await new Promise(setImmediate);
        await chat.stop();
      }
      await sending;
      const text = chat.messages.filter(({ role }) => role === "assistant").map(textOf).join("|");
      return { text, status: chat.status, error: chat.error?.message ?? null, finishes };
    }),
  );
  const later = asked.length;
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  return { chats, asked: asked.slice(0, later), more: asked.length - later, now };
}

/** Each case by itself, in one process. */
export async function all({ cases }) {
  const told = {};
  for (const [name, parameters] of Object.entries(cases)) {
    told[name] = { send: await send(structuredClone(parameters)), follow: await follow(structuredClone(parameters)) };
  }
  return told;
}

/** A turn followed to its end. `stops`: aborted at that request. */
export async function follow({ plan = [], options = {}, tokens, stops }) {
  now = 0;
  const { ask, asked } = service(events, plan);
  const stop = new AbortController();
  const counting = (...request) => {
    const answer = ask(...request);
    if (asked.length === stops) stop.abort();
    return answer;
  };
  const seen = [];
  let error = null;
  try {
    for await (const event of followTurn("http://service/t/events", { ...options, headers: headersOf(tokens), fetch: counting, signal: stop.signal })) {
      seen.push(event);
    }
  } catch ({ name, message, status, code }) {
    error = { name, message, status, code };
  }
  const names = seen.map(({ name }) => name);
  return { text: seen.map(({ data }) => data.text ?? "").join(""), names, error, asked, now };
}
