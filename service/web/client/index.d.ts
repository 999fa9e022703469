/** How a `fetch` of the AI SDK's transports survives drops; see the README. */
export interface ResumableFetchOptions {
  /** The SDK in use knows the chunk `reset-step` (AI SDK 7): an answer that is begun again is replaced in place. */
  resetStep?: boolean;
  /** Milliseconds without progress after which a drop is shown; 60,000 without it. */
  patience?: number;
  /** Milliseconds without a byte after which a line is taken for dead and made anew; 45,000, three heartbeats, without it. */
  silence?: number;
  fetch?: typeof globalThis.fetch;
}

export function resumableFetch(options?: ResumableFetchOptions): typeof globalThis.fetch;

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details?: { cached_tokens: number };
  completion_tokens_details?: { reasoning_tokens: number };
}

interface Named<Name extends string, Data> {
  /** The cursor: give it as `after` to go on behind it. */
  id: number;
  name: Name;
  data: Data;
}

/** The events of a turn (docs/events.md). Names that are not known are to be passed over. */
export type TurnEvent =
  | Named<"turn.started", { turn_id: string; session_id: string; model: string; created: number; message_id?: string }>
  | Named<"attempt.started", { attempt: number; model: string }>
  | Named<"delta", { text: string }>
  | Named<"reasoning", { text: string }>
  | Named<"tool_call", { index: number; id?: string; type?: string; function: { name?: string; arguments?: string } }>
  /** The text so far is void: the answer begins anew. */
  | Named<"turn.restarted", { attempt?: number }>
  | Named<"turn.completed", { finish_reason: string; usage: Usage }>
  | Named<"turn.stopped", { finish_reason: string; usage: Usage }>
  | Named<
      "turn.failed",
      { code: string; message: string; retryable: boolean; retry_after?: number; param?: string; usage?: Usage }
    >;

export interface FollowOptions {
  /** The id of the last event that is known; 0, the start, without it. */
  after?: number;
  /** An `Authorization`, for example. */
  headers?: Record<string, string>;
  /** Milliseconds without progress after which it gives up; 60,000 without it. */
  patience?: number;
  signal?: AbortSignal;
  fetch?: typeof globalThis.fetch;
}

/**
 * The events of a turn, each once and in order, up to its end. `url` is that of its events: the `Location` of the send
 * with `/events` behind it. Throws TurnError where the service refuses, and what `fetch` throws when patience is over.
 */
export function followTurn(url: string | URL, options?: FollowOptions): AsyncGenerator<TurnEvent, void, void>;

export class TurnError extends Error {
  status: number;
  code: string;
}
