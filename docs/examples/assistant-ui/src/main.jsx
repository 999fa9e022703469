import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { api, Chat, chatFetch } from "./Chat.jsx";

// The chat is named by the address, so that a reload, and another device, find it again.
const id = location.hash.slice(1) || crypto.randomUUID();
history.replaceState(null, "", `#${id}`);

const kept = await chatFetch(`${api}/${id}/messages`);
if (!kept.ok && kept.status !== 404) throw new Error(await kept.text());
const messages = kept.ok ? await kept.json() : []; // 404: it has none yet

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <Chat id={id} messages={messages} />
  </StrictMode>,
);
