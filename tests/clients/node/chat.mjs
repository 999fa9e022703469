// The AI SDK's Chat, in the versions that are in use, against the service.
import { resumableFetch } from "../../../service/web/client/resumable-fetch.js";

/** node's fetch with the words of Chromium, by which the SDK tells a drop from other errors. */
async function fetchOfChromium(input, init) {
  const failed = (words) => (error) => {
    throw error.name === "AbortError" ? error : new TypeError(words);
  };
  const response = await fetch(input, init).catch(failed("Failed to fetch"));
  if (!response.body) return response;
  const reader = response.body.getReader();
  const body = new ReadableStream({
    async pull(controller) {
      const { done, value } = await reader.read().catch(failed("network error"));
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  });
  return new Response(body, { status: response.status, headers: response.headers });
}

export const packageOf = (version) => (version === "react" ? "ai" : version);

/** Loads the versions, which takes seconds: the first chat must not be over before the last begins. */
export const prepare = (versions) => Promise.all([...versions.map((v) => import(packageOf(v))), import("@ai-sdk/react")]);

/** A Chat of any version: `react` is the one below useChat, the others are AbstractChat itself. */
export async function newChat({ version = "react", url, id = "c", messages = [], resumable, resetStep, text, body, ...init }) {
  const sdk = await import(packageOf(version));
  const transport = text
    ? new sdk.TextStreamChatTransport({
        api: `${url}/chat`,
        fetch: fetchOfChromium,
        prepareSendMessagesRequest: ({ id, messages }) => ({
          body: { session_id: id, user_query: messages.at(-1).parts.map((part) => part.text ?? "").join("") },
        }),
      })
    : new sdk.DefaultChatTransport({
        api: `${url}/api/chat`,
        body,
        fetch: resumable ? resumableFetch({ resetStep, fetch: fetchOfChromium }) : fetchOfChromium,
      });
  const seen = { statuses: [], finishes: [] };
  const onFinish = ({ isAbort, isDisconnect, isError }) => seen.finishes.push({ isAbort, isDisconnect, isError });
  const options = { id, transport, onFinish, onError: () => {}, ...init };
  let chat;
  if (version === "react") {
    const { Chat } = await import("@ai-sdk/react");
    chat = new Chat({ ...options, messages });
    chat["~registerStatusCallback"](() => seen.statuses.push(chat.status));
  } else {
    class PlainChat extends sdk.AbstractChat {}
    chat = new PlainChat({ ...options, state: plainState(messages, (status) => seen.statuses.push(status)) });
  }
  return { chat, seen };
}

function plainState(messages, onStatus) {
  let status = "ready";
  const state = {
    messages,
    error: undefined,
    get status() {
      return status;
    },
    set status(value) {
      status = value;
      onStatus(value);
    },
    pushMessage: (message) => (state.messages = [...state.messages, message]),
    popMessage: () => (state.messages = state.messages.slice(0, -1)),
    replaceMessage: (index, message) => {
      state.messages = state.messages.map((old, i) => (i === index ? structuredClone(message) : old));
    },
    snapshot: (value) => structuredClone(value),
  };
  return state;
}

export const textOf = (message) =>
  message.parts.filter((part) => part.type === "text").map((part) => part.text).join("");

function result(chat, seen) {
  const messages = chat.messages.map((message) => ({
    id: message.id,
    role: message.role,
    text: textOf(message),
    reasoning: message.parts.filter((part) => part.type === "reasoning").map((part) => part.text).join(""),
    metadata: message.metadata ?? null,
  }));
  return { messages, status: chat.status, error: chat.error?.message ?? null, ...seen };
}

/** The answer has more than so many characters. */
async function shows(chat, characters) {
  for (;;) {
    const last = chat.messages.at(-1);
    if (last?.role === "assistant" && textOf(last).length > characters) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** One message after the other. */
export async function talk({ texts, ...options }) {
  const { chat, seen } = await newChat(options);
  for (const text of texts) await chat.sendMessage({ text });
  return result(chat, seen);
}

/** A tool that runs on the page: its outputs are sent back by themselves, until the answer has text. */
export async function tools({ text, tools, failing, ...options }) {
  const sdk = await import(packageOf(options.version ?? "react"));
  let number = 0;
  const onToolCall = ({ toolCall: { toolName, toolCallId } }) => {
    const output = number === failing ? { state: "output-error", errorText: "no such city" } : { output: { mm: number } };
    number += 1;
    chat.addToolOutput({ tool: toolName, toolCallId, ...output });
  };
  const { chat, seen } = await newChat({
    ...options,
    body: { tools },
    onToolCall,
    sendAutomaticallyWhen: sdk.lastAssistantMessageIsCompleteWithToolCalls,
  });
  await chat.sendMessage({ text });
  while (chat.status !== "error" && !textOf(chat.messages.at(-1))) await new Promise((go) => setTimeout(go, 5));
  while (chat.status === "submitted" || chat.status === "streaming") await new Promise((go) => setTimeout(go, 5));
  return { ...result(chat, seen), parts: chat.messages.at(-1).parts };
}

/** Two messages; the first is regenerated or edited. */
export async function again({ way, texts, edited, ...options }) {
  const { chat, seen } = await newChat(options);
  for (const text of texts) await chat.sendMessage({ text });
  const before = result(chat, seen);
  if (way === "regenerate") await chat.regenerate();
  if (way === "regenerate-first") await chat.regenerate({ messageId: chat.messages[1].id });
  if (way === "edit") await chat.sendMessage({ text: edited, messageId: chat.messages[0].id });
  return { before, after: result(chat, seen) };
}

/** The user presses stop: the page stops reading and tells the server. */
export async function stop({ text, ...options }) {
  const { chat, seen } = await newChat(options);
  const sending = chat.sendMessage({ text });
  await shows(chat, 40);
  const stopped = await fetch(`${options.url}/api/chat/${chat.id}/stop`, { method: "POST" });
  await sending;
  const told = await stopped.text();
  await chat.sendMessage({ text: "[[say=after]]" });
  return { told, ...result(chat, seen) };
}

/** The page goes away in mid-answer and comes back with the server's history, as after a reload. */
export async function reload({ text, history, ...options }) {
  const first = await newChat(options);
  first.chat.sendMessage({ text });
  await shows(first.chat, 40);
  const asked = first.chat.messages.slice(0, 1);
  await first.chat.stop();
  const load = async () => (await fetch(`${options.url}/api/chat/${first.chat.id}/messages`)).json();
  if (history === "finished") {
    while ((await load()).length < 2) await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const messages = history === "question" ? asked : await load();
  const { chat, seen } = await newChat({ ...options, messages });
  await chat.resumeStream();
  return result(chat, seen);
}

/**
 * What an app does about a drop without our module: `resume` asks the same Chat to resume, `remount`
 * makes a new one out of the server's history, as a reload does.
 */
export async function recover({ text, how, ...options }) {
  let { chat, seen } = await newChat(options);
  await chat.sendMessage({ text });
  const dropped = result(chat, { ...seen, statuses: [...seen.statuses], finishes: [...seen.finishes] });
  while (chat.status === "error") {
    if (how === "remount") {
      const history = await fetch(`${options.url}/api/chat/${chat.id}/messages`);
      ({ chat, seen } = await newChat({ ...options, messages: await history.json() }));
    }
    await chat.resumeStream();
  }
  return { dropped, after: result(chat, seen) };
}

/** Opens a chat that nobody has written to. */
export async function open(options) {
  const { chat, seen } = await newChat(options);
  await chat.resumeStream();
  return result(chat, seen);
}

/** A failure, and then what the retry button of most apps does. */
export async function retry({ text, ...options }) {
  const { chat, seen } = await newChat(options);
  await chat.sendMessage({ text });
  const failed = result(chat, { ...seen, statuses: [...seen.statuses] });
  await chat.regenerate();
  return { failed, after: result(chat, seen) };
}

/** The hook itself, rendered: one component sends when it is mounted, one resumes. */
export async function hook({ url, text, resume, id = "c", resumable }) {
  globalThis.IS_REACT_ACT_ENVIRONMENT = false;
  const { createElement, useEffect } = await import("react");
  const { create } = await import("react-test-renderer");
  const { useChat } = await import("@ai-sdk/react");
  const { DefaultChatTransport } = await import("ai");
  const transport = new DefaultChatTransport({
    api: `${url}/api/chat`,
    ...(resumable && { fetch: resumableFetch({ resetStep: true }) }),
  });
  const renders = [];
  let done;
  const over = new Promise((resolve) => (done = resolve));
  function Page() {
    const chat = useChat({ id, transport, resume, onFinish: () => setTimeout(done, 50), onError: () => setTimeout(done, 50) });
    renders.push({ status: chat.status, text: chat.messages.map(textOf), error: chat.error?.message ?? null });
    useEffect(() => {
      if (text) chat.sendMessage({ text });
    }, []);
    return null;
  }
  const tree = create(createElement(Page));
  await over;
  const last = renders.at(-1);
  tree.unmount();
  return { ...last, statuses: renders.map(({ status }) => status), renders: renders.length };
}
