// The route handler of docs/examples/next, served by node as Next serves it, and an AI SDK chat that speaks to it.
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { Readable } from "node:stream";
import { Chat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { build } from "esbuild";
import { resumableFetch } from "../../../service/web/client/index.js";
import { textOf } from "./chat.mjs";

const ROUTE = "../../../docs/examples/next/app/api/chat/[[...path]]/route.js";
const CLIENT = "../../../service/web/client/index.js";

/** The handler with what it imports, our package among it, in one file. */
async function handlersOf(service) {
  process.env.CHAT_URL = service;
  const folder = await mkdtemp(join(import.meta.dirname, "node_modules", ".route-"));
  const [route, client] = [ROUTE, CLIENT].map((path) => join(import.meta.dirname, path));
  const outfile = join(folder, "route.mjs");
  try {
    const alias = { "chat-service-client": client };
    await build({ entryPoints: [route], outfile, bundle: true, format: "esm", platform: "node", alias, logLevel: "silent" });
    return await import(outfile);
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function served(service) {
  const handlers = await handlersOf(service);
  const server = createServer(async (request, response) => {
    const { method, headers } = request;
    const url = new URL(request.url, "http://localhost");
    const body = method === "POST" ? Readable.toWeb(request) : undefined;
    const asked = new Request(url, { method, headers, body, duplex: "half" });
    const path = url.pathname.split("/").slice(3).map(decodeURIComponent);
    const answer = await handlers[method](asked, { params: Promise.resolve(path.length ? { path } : {}) });
    response.writeHead(answer.status, Object.fromEntries(answer.headers));
    try {
      for await (const piece of answer.body ?? []) response.write(piece);
      response.end();
    } catch {
      response.destroy(); // as Next does where a stream breaks
    }
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return { server, url: `http://127.0.0.1:${server.address().port}` };
}

/** One message sent through the handler: the texts, whether there was an error, and what a reload finds. */
export async function send({ url, text, token }) {
  const { server, url: own } = await served(url);
  const api = `${own}/api/chat`;
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const transport = new DefaultChatTransport({ api, headers, fetch: resumableFetch({ resetStep: true }) });
  const chat = new Chat({ id: "n", transport });
  const statuses = [];
  chat["~registerStatusCallback"](() => statuses.push(chat.status));
  await chat.sendMessage({ text });
  const kept = await fetch(`${api}/n/messages`, { headers });
  const messages = kept.ok ? await kept.json() : [];
  server.close();
  server.closeAllConnections();
  const [texts, again] = [chat.messages, messages].map((list) => list.map(textOf));
  return { texts, kept: again, statuses, error: chat.error?.message ?? null };
}
