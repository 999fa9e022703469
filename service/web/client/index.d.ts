export { resumableFetch, type Asked, type OwnHeaders, type ResumableFetchOptions } from "./resumable-fetch.js";
import type { OwnHeaders } from "./resumable-fetch.js";

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
  headers?: OwnHeaders;
  /** Milliseconds of vain attempts after which it gives up; 60,000 without it. */
  patience?: number;
  /** Milliseconds without a byte after which a line is taken for dead; 45,000, three heartbeats, without it. */
  silence?: number;
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
