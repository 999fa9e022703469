// The OpenAI and Groq SDKs for node against the service.
import Groq from "groq-sdk";
import OpenAI from "openai";

/** Groq's SDK adds /openai/v1 to its base URL, OpenAI's adds nothing. */
function client({ library, url, retries = 0 }) {
  if (library === "groq") return new Groq({ baseURL: url, apiKey: "none", maxRetries: retries });
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: retries });
}

const MODEL = "openai/gpt-oss-120b";

function described(error) {
  const { status, code, type, message } = error;
  return { kind: error.constructor.name, status, code, type, message };
}

export async function stream({ message, headers, ...options }) {
  const seen = { text: "", reasoning: "", finish: null, usage: null, groqUsage: null };
  try {
    const chunks = await client(options).chat.completions.create(
      {
        model: MODEL,
        stream: true,
        stream_options: { include_usage: true },
        messages: [{ role: "user", content: message }],
      },
      { headers },
    );
    for await (const chunk of chunks) {
      const [choice] = chunk.choices;
      seen.text += choice?.delta.content ?? "";
      seen.reasoning += choice?.delta.reasoning ?? "";
      seen.finish = choice?.finish_reason ?? seen.finish;
      seen.usage = chunk.usage ?? seen.usage;
      seen.groqUsage = chunk.x_groq?.usage ?? seen.groqUsage;
    }
  } catch (error) {
    seen.error = described(error);
  }
  return seen;
}

export async function complete({ message, session, ...options }) {
  try {
    const { data, response } = await client(options)
      .chat.completions.create({
        model: MODEL,
        messages: [{ role: "user", content: message }],
        ...(session && { session_id: session }),
      })
      .withResponse();
    const [choice] = data.choices;
    return {
      text: choice.message.content,
      finish: choice.finish_reason,
      usage: data.usage,
      session: response.headers.get("x-session-id"),
    };
  } catch (error) {
    return { error: described(error) };
  }
}

/** The helper that checks what it reads: role first, finish_reason last. */
export async function helper({ message, tools, ...options }) {
  const runner = client(options).chat.completions.stream({
    model: MODEL,
    messages: [{ role: "user", content: message }],
    tools,
    stream_options: { include_usage: true },
  });
  const deltas = [];
  runner.on("content", (delta) => deltas.push(delta));
  const final = await runner.finalChatCompletion();
  return { deltas, message: final.choices[0].message, finish: final.choices[0].finish_reason, usage: final.usage };
}

export async function models(options) {
  const { data } = await client(options).models.list();
  const one = await client(options).models.retrieve(data[0].id);
  return { found: data.map(({ id }) => id), one: one.id };
}
