import { useChat } from "@ai-sdk/react";
import {
  AssistantRuntimeProvider,
  AuiIf,
  ComposerPrimitive,
  ErrorPrimitive,
  MessagePrimitive,
  ThreadPrimitive,
} from "@assistant-ui/react";
import { AssistantChatTransport, useAISDKRuntime } from "@assistant-ui/react-ai-sdk";
import { resumableFetch } from "chat-service-client";
import { useMemo } from "react";

export const api = `${import.meta.env.VITE_CHAT_URL ?? ""}/api/chat`;

export const chatFetch = resumableFetch({ resetStep: true }); // lost lines and killed workers: the page does not notice

const transportOf = (id) =>
  new AssistantChatTransport({
    api,
    fetch: chatFetch,
    // The chat's id in place of assistant-ui's own. The whole list goes along: what an edit cuts off is cut off at the service too.
    prepareSendMessagesRequest: ({ body, messages, trigger, messageId }) => ({ body: { ...body, id, messages, trigger, messageId } }),
  });

/** In place of useChatRuntime, which takes neither an id nor `resume`. */
function useRuntime(id, messages) {
  const transport = useMemo(() => transportOf(id), [id]);
  const chat = useChat({ id, messages, transport, resume: messages.length > 0 });
  const stop = () => {
    fetch(`${api}/${id}/stop`, { method: "POST" }); // the answer ends, for everybody
    return chat.stop(); // this page stops reading
  };
  const runtime = useAISDKRuntime({ ...chat, stop });
  transport.setRuntime(runtime);
  return runtime;
}

const Message = ({ role }) => (
  <MessagePrimitive.Root className={role}>
    <MessagePrimitive.Parts>{({ part }) => (part.type === "text" ? part.text : null)}</MessagePrimitive.Parts>
    <MessagePrimitive.Error>
      <ErrorPrimitive.Root role="alert">
        <ErrorPrimitive.Message />
      </ErrorPrimitive.Root>
    </MessagePrimitive.Error>
  </MessagePrimitive.Root>
);

export function Chat({ id, messages }) {
  return (
    <AssistantRuntimeProvider runtime={useRuntime(id, messages)}>
      <ThreadPrimitive.Root>
        <ThreadPrimitive.Viewport>
          <ThreadPrimitive.Messages>{({ message }) => <Message role={message.role} />}</ThreadPrimitive.Messages>
        </ThreadPrimitive.Viewport>
        <ComposerPrimitive.Root>
          <ComposerPrimitive.Input aria-label="Message" />
          <AuiIf condition={({ thread }) => !thread.isRunning}>
            <ComposerPrimitive.Send>Send</ComposerPrimitive.Send>
          </AuiIf>
          <AuiIf condition={({ thread }) => thread.isRunning}>
            <ComposerPrimitive.Cancel>Stop</ComposerPrimitive.Cancel>
          </AuiIf>
        </ComposerPrimitive.Root>
      </ThreadPrimitive.Root>
    </AssistantRuntimeProvider>
  );
}
