// A chat as a file: JSON as the service has it, or Markdown to read. Loaded when somebody exports.

import { texts } from "./texts.js";

/** The whole session as Markdown. */
export function markdown({ session, messages }) {
  const parts = [`# ${session.title || texts.chat}`];
  if (session.system_prompt) parts.push(`> ${session.system_prompt.replaceAll("\n", "\n> ")}`);
  for (const { role, content, model, state } of messages) {
    const by = role === "user" ? texts.you : `${texts.answer}${model ? ` (${model})` : ""}${state === "completed" ? "" : `, ${texts.states[state]}`}`;
    parts.push(`## ${by}`, content);
  }
  return `${parts.join("\n\n")}\n`;
}

/** Give a file to the browser to keep. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export const fileName = (session, ending) =>
  `${(session.title || session.id).replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60)}.${ending}`;
