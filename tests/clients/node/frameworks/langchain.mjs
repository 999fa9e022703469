// LangChain's chat models of OpenAI and Groq.
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { ChatGroq } from "@langchain/groq";
import { ChatOpenAI } from "@langchain/openai";
import { z } from "zod";
import { TOOL, asking } from "../asking.mjs";

const Weather = z.object({ city: z.string(), degrees: z.int() });

function newModel({ library, url, v1, model, responses }) {
  const common = { model, apiKey: "none", maxRetries: 0 };
  if (library === "groq") return new ChatGroq({ baseUrl: url, ...common });
  return new ChatOpenAI({ configuration: { baseURL: v1 }, useResponsesApi: responses ?? false, ...common });
}

async function stream(asked, question) {
  for await (const piece of await newModel(asked).stream(question)) asked.show(piece.text);
}

async function tools(asked, question) {
  const model = newModel(asked).bindTools([TOOL]);
  const messages = [new HumanMessage(question)];
  const answer = await model.invoke(messages);
  messages.push(answer);
  for (const { id, args } of answer.tool_calls) {
    messages.push(new ToolMessage({ content: asked.weather(args), tool_call_id: id }));
  }
  return (await model.invoke(messages)).text;
}

async function structured(asked, question) {
  const model = newModel(asked).withStructuredOutput(Weather, { method: "jsonSchema", name: "weather" });
  return await model.invoke(question);
}

export const play = asking({ stream, tools, structured });
