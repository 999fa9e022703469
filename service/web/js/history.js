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

  async #read(cursor) {
    const from = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const page = await this.#api.json("GET", `${this.#path}/messages?order=desc&versions=1&brief=1&limit=${PAGE}${from}`);
    // Clients of OpenAI's conversations may add what the system says: that is for the model.
    return { ...page, data: page.data.filter(({ role }) => role !== "system") };
  }
}

/** Say why the last answer of a conversation is missing or broken, where its turn can be read and it is `still` the matter. */
export async function explainLast(api, path, conversation, still) {
  const { last } = conversation;
  if (!last?.turn || (last.role !== "user" && !last.failed)) return;
  const turn = await api.json("GET", `${path}/turns/${last.newestTurn ?? last.turn}`).catch(() => null);
  if (!turn || last !== conversation.last || !still()) return;
  // The wait was named when the answer failed, which was about when its question came.
  const left = (turn.error?.retry_after ?? 0) - (Date.now() - (last.created || 0)) / 1000;
  const error = turn.error && { ...turn.error, retryAfter: left > 0 ? left : null };
  // What its own turn has completed is an answer; where there is none it was asked again, and that failed.
  if (last.role === "user") conversation.addEnd(turn.state === "completed" ? "failed" : turn.state, error);
  else last.fail(error);
}
