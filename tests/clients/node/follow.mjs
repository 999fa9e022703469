// followTurn of the package service/web/client: all that it yields, and how it ends.
import { followTurn } from "../../../service/web/client/index.js";

export async function follow({ url, ...options }) {
  const events = [];
  try {
    for await (const { id, name, data } of followTurn(url, options)) events.push([id, name, data.text ?? null]);
  } catch ({ name, status, code }) {
    return { events, error: { name, status, code } };
  }
  return { events, error: null };
}
