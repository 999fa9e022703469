// Where the chat service is, and who asks it: the pages (on the server) and the route handler have this from here.
import { resumableFetch } from "chat-service-client";

export const SERVICE = process.env.CHAT_URL ?? "http://localhost:8000";

/**
 * Who asks, as the service is to know it: chats belong to whoever has made them. With the user's own token (Auth0, Clerk,
 * Keycloak, Entra: CHAT_AUTH=jwt) each has their own; with one key for all, everybody sees everything.
 */
export async function credential(headers) {
  return headers.get("authorization");
}

const ask = resumableFetch(); // a replica that is just being replaced is asked again

/** What a chat has so far; nothing where nobody has written to it. */
export async function messagesOf(id, headers) {
  const authorization = await credential(headers);
  const answer = await ask(new URL(`/api/chat/${encodeURIComponent(id)}/messages`, SERVICE), {
    headers: authorization ? { authorization } : {},
    cache: "no-store",
  });
  if (answer.status === 404) return [];
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}
