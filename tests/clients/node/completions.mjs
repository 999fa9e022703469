// OpenAI's SDK for node; with `library: "groq"` Groq's, which has the same methods.
import Groq from "groq-sdk";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { TOOL, asking, said } from "./asking.mjs";

const Weather = z.object({ city: z.string(), degrees: z.int() });

function completions({ library, url, v1 }) {
  const client =
    library === "groq"
      ? new Groq({ baseURL: url, apiKey: "none", maxRetries: 0 })
      : new OpenAI({ baseURL: v1, apiKey: "none", maxRetries: 0 });
  return client.chat.completions;
}

async function stream(asked, question) {
  const chunks = await completions(asked).create({ model: asked.model, messages: said(question), stream: true });
  for await (const chunk of chunks) asked.show(chunk.choices[0].delta.content);
}

async function tools(asked, question) {
  const messages = said(question);
  const create = () => completions(asked).create({ model: asked.model, messages, tools: [TOOL] });
  const { message } = (await create()).choices[0];
  messages.push(message);
  for (const { id, function: call } of message.tool_calls) {
    messages.push({ role: "tool", tool_call_id: id, content: asked.weather(JSON.parse(call.arguments)) });
  }
  return (await create()).choices[0].message.content;
}

async function structured(asked, question) {
  const response_format = zodResponseFormat(Weather, "weather");
  const body = { model: asked.model, messages: said(question), response_format };
  if (asked.library === "openai") return (await completions(asked).parse(body)).choices[0].message.parsed;
  return JSON.parse((await completions(asked).create(body)).choices[0].message.content);
}

export const play = asking({ stream, tools, structured });
