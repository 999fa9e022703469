// What one builds on the resumable-stream package: POST /chat asks the model and sends its text on, and every
// piece of it is published in Redis, where somebody has asked for the stream again.
import { randomUUID } from "node:crypto";
import http from "node:http";
import { Readable } from "node:stream";
import { createResumableStreamContext } from "resumable-stream";

const [port, model] = process.argv.slice(2);
const streams = createResumableStreamContext({ waitUntil: null });

/** The text in OpenAI's chunks, which may be cut anywhere. */
function texts() {
  let rest = "";
  return new TransformStream({
    transform(piece, controller) {
      const frames = (rest + piece).split("\n\n");
      rest = frames.pop();
      for (const frame of frames) {
        if (frame === "data: [DONE]") continue;
        const text = JSON.parse(frame.slice(6)).choices[0]?.delta?.content;
        if (text) controller.enqueue(text);
      }
    },
  });
}

async function ask(question) {
  const answer = await fetch(`${model}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: "Bearer gsk_bench" },
    body: JSON.stringify({
      model: "openai/gpt-oss-120b",
      messages: [{ role: "user", content: question }],
      stream: true,
    }),
  });
  return answer.body.pipeThrough(new TextDecoderStream()).pipeThrough(texts());
}

const server = http.createServer(async (request, response) => {
  let body = "";
  for await (const piece of request) body += piece;
  const { user_query: question } = JSON.parse(body);
  const text = await ask(question);
  const stream = await streams.createNewResumableStream(randomUUID(), () => text);
  response.writeHead(200, { "Content-Type": "text/plain; charset=utf-8" });
  Readable.fromWeb(stream).pipe(response);
});
server.listen({ port: Number(port), host: "127.0.0.1", backlog: 4096 }, () => console.log("ready"));
