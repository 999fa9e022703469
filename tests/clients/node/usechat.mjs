// The chat below useChat, in a version of the AI SDK, against /api/chat. Its tools run on the page.
import { newChat, packageOf, textOf } from "./chat.mjs";
import { SCHEMA, TOOL, asking } from "./asking.mjs";

const opened = (asked, options) => newChat({ version: asked.version, url: asked.url, id: crypto.randomUUID(), ...options });

async function stream(asked, text) {
  const { chat } = await opened(asked);
  await chat.sendMessage({ text });
  const answer = chat.messages.at(-1);
  if (answer?.role === "assistant") asked.show(textOf(answer));
  if (chat.error) throw chat.error;
}

async function tools(asked, text) {
  const { lastAssistantMessageIsCompleteWithToolCalls } = await import(packageOf(asked.version));
  const { chat } = await opened(asked, {
    body: { tools: [TOOL] },
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
    onToolCall: ({ toolCall: { toolName, toolCallId, input } }) => {
      chat.addToolOutput({ tool: toolName, toolCallId, output: asked.weather(input) });
    },
  });
  await chat.sendMessage({ text });
  while (!chat.error && (chat.status !== "ready" || !textOf(chat.messages.at(-1)))) {
    await new Promise((look) => setTimeout(look, 10));
  }
  if (chat.error) throw chat.error;
  return textOf(chat.messages.at(-1));
}

async function structured(asked, text) {
  const response_format = { type: "json_schema", json_schema: { name: "weather", strict: true, schema: SCHEMA } };
  const { chat } = await opened(asked, { body: { response_format } });
  await chat.sendMessage({ text });
  return JSON.parse(textOf(chat.messages.at(-1)));
}

export const play = asking({ stream, tools, structured });
