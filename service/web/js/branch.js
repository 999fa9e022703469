// A copy of a chat, or of it up to an answer. Loaded when somebody wants one.

import { newId } from "./ids.js";
import { texts } from "./texts.js";

/** Make it; resolves to the new session. `view` is the answer that it ends with, else it has all messages. */
export async function copyOf(api, session, view) {
  const path = (id) => `v1/sessions/${encodeURIComponent(id)}`;
  const through = view?.id ?? (await find(api, path(session.id), view?.turn));
  const headers = { "Idempotency-Key": newId("k") };
  const copy = await api.json("POST", `${path(session.id)}/fork`, { body: { through }, headers });
  const title = texts.copyOf(copy.title || texts.untitled);
  await api.json("PATCH", path(copy.id), { body: { title: Array.from(title).slice(0, 200).join("") } }).catch(() => {});
  return copy;
}

/** The id of the answer of a turn (one that has grown here has none), or of the newest message. */
async function find(api, path, turn) {
  for (let cursor = ""; ; ) {
    const page = await api.json("GET", `${path}/messages?order=desc&limit=${turn ? 40 : 1}${cursor}`);
    const found = page.data.find((message) => !turn || (message.role === "assistant" && message.turn_id === turn));
    if (found || page.next === null) return found?.id ?? "";
    cursor = `&cursor=${encodeURIComponent(page.next)}`;
  }
}
