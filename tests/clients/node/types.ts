// The types of the package as somebody would use them; only compiled (tests/clients/test_package.py).
import { followTurn, resumableFetch, TurnError, type TurnEvent } from "chat-service-client";
import { resumableFetch as same } from "chat-service-client/resumable-fetch.js";
import { DefaultChatTransport } from "ai";

export const transport = new DefaultChatTransport({
  api: "/api/chat",
  fetch: resumableFetch({ resetStep: true, patience: 30_000, fetch: globalThis.fetch }),
});
export const plain: typeof fetch = same();
export const renewed = resumableFetch({
  silence: 20_000,
  headers: async ({ refused }) => ({ authorization: refused ? "Bearer new" : "Bearer old" }),
});

export async function textOf(url: URL, signal: AbortSignal): Promise<string> {
  let text = "";
  try {
    for await (const event of followTurn(url, { after: 3, headers: () => ({ authorization: "Bearer x" }), silence: 20_000, signal })) {
      text = next(text, event);
    }
  } catch (error) {
    if (error instanceof TurnError) return `${error.status} ${error.code} ${error.message}`;
    throw error;
  }
  return text;
}

function next(text: string, event: TurnEvent): string {
  const id: number = event.id;
  switch (event.name) {
    case "delta":
      return text + event.data.text;
    case "turn.restarted":
      return "";
    case "turn.completed":
      return `${text} (${id}, ${event.data.usage.total_tokens} tokens, ${event.data.usage.prompt_tokens_details?.cached_tokens ?? 0})`;
    case "turn.failed":
      throw new Error(event.data.retryable ? event.data.message : event.data.code);
    default:
      return text;
  }
}

// @ts-expect-error: an option that there is not
resumableFetch({ resetSteps: true });
// @ts-expect-error: it is in the package, not in this module
export type { followTurn } from "chat-service-client/resumable-fetch.js";
// @ts-expect-error: events have names
followTurn("x").next().then(({ value }) => value && value.kind);
// @ts-expect-error: a delta has a text, and no number
export const wrong = (event: Extract<TurnEvent, { name: "delta" }>): number => event.data.text;
