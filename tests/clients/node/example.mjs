// Runs an example of the documentation, with the little of a browser that it uses.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";
import { EventSource } from "eventsource";

globalThis.EventSource = EventSource;

/** The example as a module beside this file, so that it finds its packages. */
async function load(code, extra = "") {
  const folder = await mkdtemp(join(import.meta.dirname, "node_modules", ".example-"));
  const [source, bundle] = [join(folder, "example.jsx"), join(folder, "example.mjs")];
  try {
    await writeFile(source, `${code}\n${extra}`);
    // Packages stay outside: the example and this file have to share one React.
    const options = { format: "esm", jsx: "automatic", packages: "external", bundle: true, logLevel: "silent" };
    await build({ entryPoints: [source], outfile: bundle, target: "node20", ...options });
    return await import(bundle);
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function until(fact) {
  for (;;) {
    const value = fact();
    if (value) return value;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** What a plain example shows: in the page's body, or on standard output. */
export async function show({ code }) {
  const body = { textContent: "" };
  globalThis.document = { body };
  let printed = "";
  const write = process.stdout.write;
  process.stdout.write = (text) => (printed += text) && true;
  let ended = !code.includes("EventSource");
  const close = EventSource.prototype.close;
  EventSource.prototype.close = function () {
    ended = true;
    return close.call(this);
  };
  try {
    await load(code);
    await until(() => ended);
  } finally {
    process.stdout.write = write;
  }
  return body.textContent || printed;
}

/** A Chat on the example's transport. */
export async function transport({ code, text }) {
  const { transport } = await load(code, "export { transport };");
  const { Chat } = await import("@ai-sdk/react");
  const chat = new Chat({ id: "c", transport });
  await chat.sendMessage({ text });
  return chat.messages.map(({ parts }) => parts.map((part) => part.text ?? "").join(""));
}

/** The example's component: a form is sent, a button is pressed, or a history is shown. */
export async function component({ code, text, stops, history }) {
  const { createElement } = await import("react");
  const { create } = await import("react-test-renderer");
  const { Chat } = await load(code);
  const messages = history ? await (await fetch(history)).json() : [];
  // A page asks whether something is running when it is opened; people are slower than its answer.
  const { fetch: ask } = globalThis;
  let opened = false;
  globalThis.fetch = async (...request) => {
    const answer = await ask(...request);
    setTimeout(() => (opened = true), 20);
    return answer;
  };
  const tree = create(createElement(Chat, { id: "c", history: messages }));
  const all = (kind) => tree.root.findAllByType(kind);
  await until(() => tree.toJSON() && opened);
  const [form] = all("form");
  const label = () => String(all("button")[0].props.children);
  const texts = () => all("p").filter(({ props }) => !props.role).map(({ children }) => children.join(""));
  const error = () => all("p").find(({ props }) => props.role === "alert")?.children.join("") ?? null;
  const buttons = [label()];
  if (text) {
    const data = new FormData();
    data.set("text", text);
    form.props.action(data);
    await until(() => label() === "Stop");
    buttons.push(label());
    if (stops) {
      await until(() => texts()[1]?.length > 40);
      all("button")[0].props.onClick();
    }
    await until(() => label() === "Send" || error());
    buttons.push(label());
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return { texts: texts(), buttons, error: error() };
}
