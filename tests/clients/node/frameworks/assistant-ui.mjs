// assistant-ui's runtime for the AI SDK, in a React tree without a browser.
import { AssistantRuntimeProvider, useAssistantTool } from "@assistant-ui/react";
import { AssistantChatTransport, useChatRuntime } from "@assistant-ui/react-ai-sdk";
import { lastAssistantMessageIsCompleteWithToolCalls } from "ai";
import { createElement, useEffect } from "react";
import { create } from "react-test-renderer";
import { PARAMETERS, asking } from "../asking.mjs";

globalThis.IS_REACT_ACT_ENVIRONMENT = false;

const textOf = ({ content }) =>
  content.filter(({ type }) => type === "text").map(({ text }) => text).join("");

/** Sends one message, with `tool` in the tree if there is one; gives the answer's message when it is over. */
async function converse(asked, question, tool) {
  let done;
  const over = new Promise((resolve) => (done = resolve));
  const Tool = () => useAssistantTool(tool) ?? null;
  function Page() {
    const runtime = useChatRuntime({
      transport: new AssistantChatTransport({ api: `${asked.url}/api/chat` }),
      sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
    });
    useEffect(() => {
      const { thread } = runtime;
      thread.append({ role: "user", content: [{ type: "text", text: question }] });
      return thread.subscribe(() => {
        const { isRunning, messages } = thread.getState();
        const last = messages.at(-1);
        if (isRunning || last?.role !== "assistant") return;
        if (last.status.type === "incomplete" || textOf(last)) done(last);
      });
    }, []);
    return createElement(AssistantRuntimeProvider, { runtime }, tool && createElement(Tool));
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
  if (type === "incomplete") throw new Error(error?.message ?? error ?? reason);
}

async function tools(asked, question) {
  const execute = async (input) => asked.weather(input);
  const tool = { toolName: "weather", type: "frontend", description: "weather", parameters: PARAMETERS, execute };
  return textOf(await converse(asked, question, tool));
}

export const play = asking({ stream, tools });
