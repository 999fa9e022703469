// The messages of a session, read in pages from their end. No DOM in here.

// A few screens.
const PAGE = 40;

export class History {
  #api;
  #path;
  #cursor = null;
  #reading = false;

  /** `path`: that of the session. */
  constructor(api, path) {
    this.#api = api;
    this.#path = path;
  }

  /** True where there are messages before those that were read. */
  get more() {
    return this.#cursor !== null;
  }

  /** The newest messages, oldest first; `again`: without forgetting how far back one has read. */
  async newest(again = false) {
    const page = await this.#read(null);
    if (!again) this.#cursor = page.next;
    return page.data.reverse();
  }

  /** The messages before those that were read; null where there are none or they are on their way. */
  async earlier() {
    if (!this.more || this.#reading) return null;
    this.#reading = true;
    try {
      const page = await this.#read(this.#cursor);
      this.#cursor = page.next;
      return page.data.reverse();
    } finally {
      this.#reading = false;
    }
  }

  #read(cursor) {
    const from = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    return this.#api.json("GET", `${this.#path}/messages?order=desc&limit=${PAGE}${from}`);
  }
}

/** {state, error} of a turn whose question came at a time (ms); null where it cannot be read. */
export async function howItEnded(api, path, created) {
  const turn = await api.json("GET", path).catch(() => null);
  if (!turn) return null;
  // The wait was named when the answer failed, which was about when its question came.
  const left = (turn.error?.retry_after ?? 0) - (Date.now() - (created || 0)) / 1000;
  return { state: turn.state, error: turn.error && { ...turn.error, retryAfter: left > 0 ? left : null } };
}
