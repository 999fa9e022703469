import { headers } from "next/headers";
import { messagesOf } from "../../chat-service";
import { Chat } from "./chat";

export default async function Page({ params }) {
  const { id } = await params;
  return <Chat id={id} messages={await messagesOf(id, await headers())} />;
}
