"use client";

import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { resumableFetch } from "chat-service-client";

const transport = new DefaultChatTransport({
  api: "/api/chat",
  fetch: resumableFetch({ resetStep: true }), // lost lines and killed workers: the page does not notice
  prepareSendMessagesRequest: ({ id, messages, trigger, messageId }) => ({
    body: { id, trigger, messageId, messages: messages.slice(-1) }, // the service has the others
  }),
});

export function Chat({ id, messages: kept }) {
  const { messages, sendMessage, stop, status, error } = useChat({ id, messages: kept, transport, resume: kept.length > 0 });
  const stopHere = () => {
    stop(); // this page stops reading
    fetch(`/api/chat/${id}/stop`, { method: "POST" }); // the answer ends, for everybody
  };
  return (
    <main>
      {messages.map(({ id, role, parts }) => (
        <p key={id} className={role}>
          {parts.map((part) => (part.type === "text" ? part.text : ""))}
        </p>
      ))}
      {error && <p role="alert">{error.message}</p>}
      <form action={(form) => void sendMessage({ text: form.get("text") })}>
        <input name="text" aria-label="Message" required />
        {status === "ready" || status === "error" ? (
          <button key="send">Send</button>
        ) : (
          <button key="stop" type="button" onClick={stopHere}>Stop</button>
        )}
      </form>
    </main>
  );
}
