// The AI SDK's functions on its providers: openai-compatible, groq, openai.chat, and openai's default (Responses).
import { z } from "zod";
import { asking } from "../asking.mjs";

const Weather = z.object({ city: z.string(), degrees: z.int() });
const load = (name, version) => import(version === 7 ? name : `${name}-${version}`);

async function newModel({ version, provider, url, v1, model }) {
  if (provider === "groq") {
    const { createGroq } = await load("@ai-sdk/groq", version);
    return createGroq({ baseURL: `${url}/openai/v1`, apiKey: "none" })(model);
  }
  if (provider === "openai-compatible") {
    const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible", version);
    const options = { name: "ours", baseURL: v1, apiKey: "none", supportsStructuredOutputs: true };
    return createOpenAICompatible(options)(model);
  }
  const { createOpenAI } = await load("@ai-sdk/openai", version);
  const openai = createOpenAI({ baseURL: v1, apiKey: "none" });
  return provider === "openai.chat" ? openai.chat(model) : openai(model);
}

async function call(asked, options) {
  const sdk = await load("ai", asked.version);
  return { sdk, options: { model: await newModel(asked), maxRetries: 0, ...options } };
}

async function stream(asked, prompt) {
  const { sdk, options } = await call(asked, { prompt, onError: () => {} });
  for await (const part of sdk.streamText(options).fullStream) {
    if (part.type === "error") throw part.error;
    if (part.type === "text-delta") asked.show(part.text);
  }
}

async function tools(asked, prompt) {
  const { sdk, options } = await call(asked, { prompt });
  const weather = sdk.tool({ inputSchema: z.object({ city: z.string() }), execute: async (input) => asked.weather(input) });
  return (await sdk.generateText({ ...options, tools: { weather }, stopWhen: sdk.stepCountIs(2) })).text;
}

async function structured(asked, prompt) {
  const { sdk, options } = await call(asked, { prompt });
  if (sdk.generateObject) return (await sdk.generateObject({ ...options, schema: Weather })).object;
  return (await sdk.generateText({ ...options, output: sdk.Output.object({ schema: Weather }) })).output;
}

export const play = asking({ stream, tools, structured });
