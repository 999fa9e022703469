// The tools that an answer has called, each folded: its name, what it was asked, and what came of it.

import { fromTemplate } from "./dom.js";
import { texts } from "./texts.js";

/** The calls of a message of the history: {id, name, arguments, result?}. */
export function callsOf({ parts = [] }) {
  const results = new Map(parts.filter(({ type }) => type === "tool_result").map((part) => [part.tool_call_id, part]));
  return parts
    .filter(({ type }) => type === "tool_call")
    .map(({ id, name, arguments: given }) => ({ id, name, arguments: given, result: results.get(id) }));
}

export class Calls {
  #box;
  #shown = []; // {element, call}

  constructor(box) {
    this.#box = box;
  }

  /** `running`: more may come of the answer by itself. */
  show(calls, running) {
    while (this.#shown.length > calls.length) this.#shown.pop().element.remove();
    calls.forEach((call, i) => this.#show(call, i, running));
    this.#box.hidden = !calls.length;
  }

  #show(call, i, running) {
    const shown = (this.#shown[i] ??= this.#made());
    shown.call = call;
    const { result } = call;
    const say = result?.is_error ? texts.toolFailed : result || running ? texts.tool : texts.toolWaits;
    const words = say(call.name);
    const name = shown.element.querySelector("summary span");
    if (name.textContent !== words) name.textContent = words;
    if (shown.element.open) fill(shown);
  }

  #made() {
    const shown = { element: fromTemplate("call-template"), call: null };
    // A result may be long: it is there when somebody looks.
    shown.element.addEventListener("toggle", () => fill(shown));
    this.#box.append(shown.element);
    return shown;
  }
}

function fill({ element, call }) {
  const [given, came] = element.querySelectorAll("pre");
  given.textContent = readable(call.arguments);
  came.parentElement.hidden = !call.result;
  came.textContent = readable(call.result?.content ?? "");
}

/** JSON with its lines, all else as it is. */
function readable(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" ? JSON.stringify(value, null, 2) : text;
  } catch {
    return text;
  }
}
