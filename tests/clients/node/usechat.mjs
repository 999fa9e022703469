// The chat below useChat, in a version of the AI SDK, against /api/chat.
import { newChat, textOf } from "./chat.mjs";
import { asking } from "./asking.mjs";

async function stream(asked, text) {
  const { chat } = await newChat({ version: asked.version, url: asked.url, id: crypto.randomUUID() });
  await chat.sendMessage({ text });
  const answer = chat.messages.at(-1);
  if (answer?.role === "assistant") asked.show(textOf(answer));
  if (chat.error) throw chat.error;
}

export const play = asking({ stream });
