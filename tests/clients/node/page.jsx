// An app of somebody else's, at an origin of its own: useChat, in ways that its address chooses.
import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } from "ai";
import { useEffect, useRef } from "react";
import { createRoot } from "react-dom/client";

const query = new URLSearchParams(location.search);
const service = query.get("service");
const id = query.get("id");

async function transport() {
  const api = `${service}/api/chat`;
  const body = { model: query.get("model") ?? undefined, tools: JSON.parse(query.get("tools")) ?? undefined };
  if (query.get("way") !== "module") return new DefaultChatTransport({ api, body });
  const { resumableFetch } = await import(`${service}/client/resumable-fetch.js`);
  return new DefaultChatTransport({ api, fetch: resumableFetch({ resetStep: true }) });
}

const textOf = (message) =>
  message.parts.filter((part) => part.type === "text").map((part) => part.text).join("");

function App({ transport, messages, resume }) {
  const chat = useChat({
    id,
    transport,
    messages,
    resume,
    // The tool that the page has: it gives the number of the round.
    onToolCall: ({ toolCall: { toolName, toolCallId } }) => {
      ref.current.addToolOutput({ tool: toolName, toolCallId, output: { mm: rounds++ } });  // not awaited
    },
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
    onFinish: ({ isDisconnect }) => isDisconnect && query.get("way") === "stock" && resumeLater(),
  });
  const ref = useRef(chat);
  ref.current = chat;
  const resumeLater = () => setTimeout(() => ref.current.resumeStream(), 100);
  useEffect(() => {
    const url = query.get("image");
    const files = url ? [{ type: "file", mediaType: "image/png", url }] : undefined;
    if (query.get("text") && !messages.length) chat.sendMessage({ text: query.get("text"), files });
  }, []);
  window.statuses.push(chat.status);
  return (
    <main data-status={chat.status}>
      <p id="error">{chat.error?.message}</p>
      {chat.messages.map((message) => (
        <pre key={message.id} className={message.role}>
          {textOf(message)}
          {message.parts
            .filter((part) => part.type === "file")
            .map((part) => (
              <img key={part.url} src={new URL(part.url, service).href} />
            ))}
        </pre>
      ))}
    </main>
  );
}

let rounds = 0;
window.statuses = [];
const history = await fetch(`${service}/api/chat/${id}/messages`).catch((error) => {
  document.body.textContent = String(error);
});
if (history) {
  const messages = history.ok ? await history.json() : [];
  const props = { transport: await transport(), messages, resume: messages.length > 0 };
  createRoot(document.body.appendChild(document.createElement("div"))).render(<App {...props} />);
}
