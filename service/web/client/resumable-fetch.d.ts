/** What a request of the module is about. */
export interface Asked {
  /** The service has answered 401 to the headers before: a token has expired, and another one is needed. */
  refused: boolean;
}

/** Sent with each request, also after drops. A function is asked each time. */
export type OwnHeaders = HeadersInit | ((asked: Asked) => HeadersInit | Promise<HeadersInit>);

/** How a `fetch` of the AI SDK's transports survives drops; see the README. */
export interface ResumableFetchOptions {
  /** The SDK in use knows the chunk `reset-step` (AI SDK 7): an answer that is begun again is replaced in place. */
  resetStep?: boolean;
  /** Milliseconds of vain attempts after which a drop is shown; 60,000 without it. */
  patience?: number;
  /** Milliseconds without a byte after which a line is taken for dead and made anew; 45,000, three heartbeats, without it. */
  silence?: number;
  /** Over those of the SDK's transport, which it does not ask for again after a drop. */
  headers?: OwnHeaders;
  fetch?: typeof globalThis.fetch;
}

export function resumableFetch(options?: ResumableFetchOptions): typeof globalThis.fetch;
