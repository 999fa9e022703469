// The dialogs of the page, each a promise of what somebody has decided; null is "nothing".
// <dialog> brings the focus trap, Escape and the way back of the focus.

import { byId } from "./dom.js";
import { texts } from "./texts.js";

/** Show a dialog; resolves to `value()` when its form is sent, else to null. */
export function ask(dialog, value) {
  return new Promise((resolve) => {
    const form = dialog.querySelector("form");
    let decided = null;
    const submit = (event) => {
      event.preventDefault();
      decided = value();
      dialog.close();
    };
    const click = (event) => {
      if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
    };
    form.addEventListener("submit", submit);
    dialog.addEventListener("click", click);
    dialog.addEventListener(
      "close",
      () => {
        form.removeEventListener("submit", submit);
        dialog.removeEventListener("click", click);
        resolve(decided);
      },
      { once: true },
    );
    dialog.showModal();
  });
}

export function askTitle(title) {
  const field = byId("rename-field");
  field.value = title ?? "";
  const answer = ask(byId("rename-dialog"), () => field.value.trim());
  field.select();
  return answer;
}

/** One chat by its title, or as many as `count` says. */
export function askDelete(title, count = 1) {
  byId("delete-title").textContent = count > 1 ? texts.deleteChats(count) : texts.deleteChat;
  byId("delete-name").textContent = title === null ? texts.ofYourChats(count) : texts.quoted(title);
  return ask(byId("delete-dialog"), () => true);
}

/** How answers are asked for: {system_prompt, temperature, reasoning_effort, keep}; what is not set is null. */
export function askSettings({ system_prompt, temperature, reasoning_effort }) {
  const [prompt, heat, effort, keep] = ["system-field", "temperature-field", "effort-field", "settings-keep"].map(byId);
  prompt.value = system_prompt ?? "";
  heat.value = temperature ?? "";
  effort.value = reasoning_effort ?? "";
  keep.checked = false;
  return ask(byId("settings-dialog"), () => ({
    system_prompt: prompt.value.trim() || null,
    temperature: heat.value === "" ? null : Number(heat.value),
    reasoning_effort: effort.value || null,
    keep: keep.checked,
  }));
}

/** {key, keep} or {signIn}, of those that are offered; `wrong`: what became of the last one. */
export async function askKey({ wrong, signIn, key: takesKey }) {
  const [field, dialog, button] = ["key-field", "key-dialog", "sign-in"].map(byId);
  const sentence = dialog.querySelector(".wrong");
  field.value = "";
  sentence.hidden = !wrong;
  sentence.textContent = wrong || "";
  byId("key-title").textContent = signIn ? texts.asksToSignIn : texts.asksForKey;
  byId("sign-in-part").hidden = !signIn;
  byId("key-part").hidden = !takesKey;
  byId("use-key").hidden = !takesKey;
  byId("use-key").className = signIn ? "quiet" : "primary";
  let chosen = false;
  button.onclick = () => {
    chosen = true;
    dialog.close();
  };
  const key = await ask(dialog, () => takesKey && field.value.trim());
  field.value = "";
  if (chosen) return { signIn: true };
  return key ? { key, keep: byId("key-keep").checked } : null;
}

export const showShortcuts = () => ask(byId("shortcuts-dialog"), () => true);
