// Calls to the service: addresses, the credential, and every failure as an ApiError.
// Knows nothing of the page; who one is, and how one is asked for it, is `access`'s.

import { texts } from "./texts.js";

/** `status` 0: nothing was heard. `retryAfter` in seconds, null when the service named none. */
export class ApiError extends Error {
  constructor(status, code, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

// What is only read begins to arrive within this time (ms); a line that says nothing is dead.
const SILENCE_MS = 20_000;
// A GET is repeated this often, after these pauses (ms), before somebody is bothered; not one that nothing was said to.
const GET_PAUSES = [300, 1200];

export class Api {
  #access;

  constructor(access) {
    this.#access = access;
  }

  /** The response of a call that succeeded. Throws ApiError, and AbortError where `signal` was used. */
  async fetch(method, path, { body, headers, signal } = {}) {
    for (;;) {
      const key = await this.#access.credential();
      const silence = new AbortController();
      const timer = method === "GET" && setTimeout(() => silence.abort(), SILENCE_MS);
      let response;
      try {
        response = await fetch(new URL(path, document.baseURI), {
          method,
          signal: AbortSignal.any([silence.signal, ...(signal ? [signal] : [])]),
          cache: "no-store",
          headers: {
            ...(key ? { Authorization: `Bearer ${key}` } : {}),
            ...(body === undefined ? {} : { "Content-Type": "application/json" }),
            ...headers,
          },
          body: body === undefined ? undefined : JSON.stringify(body),
        });
      } catch (error) {
        if (silence.signal.aborted) throw new ApiError(0, "silent", texts.errors.unreachable);
        if (error.name === "AbortError") throw error;
        throw new ApiError(0, navigator.onLine ? "unreachable" : "offline", texts.errors.unreachable);
      } finally {
        clearTimeout(timer);
      }
      if (response.ok) return response;
      const failure = await failureOf(response);
      if (failure.status !== 401 || !(await this.#access.ask(key, method))) throw failure;
    }
  }

  /** The JSON of a call; a GET is repeated where that may help. */
  async json(method, path, options) {
    for (let tries = 0; ; tries++) {
      try {
        const response = await this.fetch(method, path, options);
        return response.status === 204 ? null : await bodyOf(response);
      } catch (error) {
        const passing = error instanceof ApiError && (error.status === 0 || error.status >= 500);
        if (method !== "GET" || !passing || error.code === "silent" || tries >= GET_PAUSES.length) throw error;
        await new Promise((resolve) => setTimeout(resolve, GET_PAUSES[tries]));
      }
    }
  }
}

/** The JSON of an answer. Throws ApiError where it broke off on the way, or a proxy has put a page in its place. */
async function bodyOf(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", texts.errors.unreachable);
  }
}

/** problem+json, OpenAI's error object, or whatever a proxy has said. */
async function failureOf(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // A proxy's HTML page, or a body that broke off.
  }
  const problem = body?.error ?? body ?? {};
  const message = problem.detail ?? problem.message ?? texts.answeredStatus(response.status);
  const wait = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  return new ApiError(
    response.status,
    typeof problem.code === "string" ? problem.code : "",
    String(message),
    Number.isFinite(wait) ? wait : null,
  );
}
