// Hands on what the page asks of the chat service: sends, streams, stops and histories. The page knows this origin only.

import { credential, SERVICE } from "../../../../chat-service.js";

const ASKED = ["accept", "content-type", "idempotency-key", "last-event-id", "x-accept-chunks"];
const ANSWERED = ["cache-control", "content-type", "retry-after", "x-request-id", "x-vercel-ai-ui-message-stream"];

async function pass(request, { params }) {
  const { path = [] } = await params;
  const url = new URL(["/api/chat", ...path.map(encodeURIComponent)].join("/"), SERVICE);
  url.search = new URL(request.url).search;
  const given = ASKED.map((name) => [name, request.headers.get(name)]).filter(([, value]) => value !== null);
  const headers = new Headers([...given, ["accept-encoding", "identity"]]);
  const authorization = await credential(request.headers);
  if (authorization) headers.set("authorization", authorization);
  const { method, body, signal } = request;
  try {
    const answer = await fetch(url, { method, headers, body, signal, duplex: "half", cache: "no-store", redirect: "manual" });
    const told = ANSWERED.map((name) => [name, answer.headers.get(name)]).filter(([, value]) => value !== null);
    return new Response(answer.body, { status: answer.status, headers: [...told, ["x-accel-buffering", "no"]] });
  } catch {
    return new Response("The chat service cannot be reached; try again.", { status: 502 }); // resumableFetch does
  }
}

export { pass as GET, pass as POST };
