// OpenAI's SDK for node and its Responses: the raw loop, or with `helper` its `.stream()`, which checks.
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { PARAMETERS, asking } from "./asking.mjs";

const Weather = z.object({ city: z.string(), degrees: z.int() });
const TOOL = { type: "function", name: "weather", parameters: PARAMETERS, strict: false };

const responsesOf = ({ v1 }) => new OpenAI({ baseURL: v1, apiKey: "none", maxRetries: 0 }).responses;

async function stream(asked, input) {
  const responses = responsesOf(asked);
  const body = { model: asked.model, input };
  const events = asked.helper ? responses.stream(body) : await responses.create({ ...body, stream: true });
  for await (const event of events) {
    if (event.type === "response.output_text.delta") asked.show(event.delta);
  }
  if (asked.helper) await events.finalResponse();
}

async function tools(asked, question) {
  const input = [{ role: "user", content: question }];
  const create = () => responsesOf(asked).create({ model: asked.model, input, tools: [TOOL] });
  const { output } = await create();
  input.push(...output);
  for (const { type, call_id, arguments: given } of output) {
    if (type !== "function_call") continue;
    input.push({ type: "function_call_output", call_id, output: asked.weather(JSON.parse(given)) });
  }
  return (await create()).output_text;
}

async function structured(asked, input) {
  const text = { format: zodTextFormat(Weather, "weather") };
  return (await responsesOf(asked).parse({ model: asked.model, input, text })).output_parsed;
}

export const play = asking({ stream, tools, structured });
