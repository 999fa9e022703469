// A chat from the file that the page has exported (JSON), as a new one. Loaded when somebody imports. The texts of
// the messages come, with title, model and system prompt; images, figures and earlier versions stay in the file.

import { newId } from "./ids.js";

// The service takes so many at a time.
const AT_ONCE = 20;

const words = (value) => (typeof value === "string" && value ? value : null);

/** {session, items} of the text of a file. Throws where it is none of ours. */
function parsed(text, offered) {
  let session, messages;
  try {
    ({ session, messages } = JSON.parse(text));
  } catch {
    // It is no JSON, or null.
  }
  if (typeof session !== "object" || !session || !Array.isArray(messages)) throw Object.assign(new Error(), { code: "no_export" });
  const items = messages
    .filter((one) => ["user", "assistant"].includes(one?.role) && words(one.content)?.trim())
    .map(({ role, content }) => ({ role, content }));
  const model = offered.includes(session.model) ? session.model : null;
  return { session: { title: words(session.title), system_prompt: words(session.system_prompt), model }, items };
}

/** Make it; resolves to its id. What was made is taken away where not all of it could be. `offered`: ids of models. */
export async function imported(api, file, offered) {
  const { session, items } = parsed(await file.text(), offered);
  const id = newId("s");
  try {
    await api.json("POST", "v1/sessions", { body: { id, ...session } });
    for (let at = 0; at < items.length; at += AT_ONCE) {
      const headers = { "Idempotency-Key": newId("k") };
      await api.json("POST", `v1/conversations/${id}/items`, { body: { items: items.slice(at, at + AT_ONCE) }, headers });
    }
  } catch (error) {
    await api.json("DELETE", `v1/sessions/${id}`).catch(() => {});
    throw error;
  }
  return id;
}
