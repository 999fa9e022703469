// A chat whose first line falls silent without an end, as behind a proxy that does not tell that the other side is gone.
import { Chat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { resumableFetch } from "../../../service/web/client/resumable-fetch.js";
import { textOf } from "./chat.mjs";

const PIECES = 3;

export async function send({ url, text, silence }) {
  let lines = 0;
  const silent = async (input, init) => {
    const response = await fetch(input, init);
    if (lines++) return response;
    const reader = response.body.getReader();
    let pieces = 0;
    const body = new ReadableStream({
      async pull(controller) {
        if (pieces++ === PIECES) return new Promise(() => {});
        controller.enqueue((await reader.read()).value);
      },
      cancel: (reason) => reader.cancel(reason),
    });
    return new Response(body, { status: response.status, headers: response.headers });
  };
  const fetching = resumableFetch({ silence, fetch: silent });
  const chat = new Chat({ id: "c", transport: new DefaultChatTransport({ api: `${url}/api/chat`, fetch: fetching }) });
  await chat.sendMessage({ text });
  return { texts: chat.messages.map(textOf), error: chat.error?.message ?? null, lines };
}
