// assistant-ui's runtime for the AI SDK, in a React tree without a browser.
import { AssistantRuntimeProvider } from "@assistant-ui/react";
import { AssistantChatTransport, useChatRuntime } from "@assistant-ui/react-ai-sdk";
import { createElement, useEffect } from "react";
import { create } from "react-test-renderer";
import { asking } from "../asking.mjs";

const textOf = ({ content }) =>
  content.filter(({ type }) => type === "text").map(({ text }) => text).join("");

/** Sends one message and waits until its answer has ended; gives the runtime's last state. */
async function converse(asked, question) {
  globalThis.IS_REACT_ACT_ENVIRONMENT = false;
  let done;
  const over = new Promise((resolve) => (done = resolve));
  function Page() {
    const runtime = useChatRuntime({ transport: new AssistantChatTransport({ api: `${asked.url}/api/chat` }) });
    useEffect(() => {
      const { thread } = runtime;
      let ran = false;
      thread.append({ role: "user", content: [{ type: "text", text: question }] });
      return thread.subscribe(() => {
        const state = thread.getState();
        ran ||= state.isRunning;
        const last = state.messages.at(-1);
        if (ran && !state.isRunning && last?.role === "assistant") done(last);
      });
    }, []);
    return createElement(AssistantRuntimeProvider, { runtime });
  }
  const tree = create(createElement(Page));
  const last = await over;
  tree.unmount();
  return last;
}

async function stream(asked, question) {
  const last = await converse(asked, question);
  asked.show(textOf(last));
  const { type, error, reason } = last.status;
  if (type === "incomplete") throw new Error(typeof error === "string" ? error : error?.message ?? JSON.stringify(error ?? reason));
}

export const play = asking({ stream });
