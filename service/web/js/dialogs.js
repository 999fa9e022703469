// The dialogs of the page, each a promise of what somebody has decided; null is "nothing".
// <dialog> brings the focus trap, Escape and the way back of the focus.

import { byId } from "./dom.js";

/** Show a dialog; resolves to `value()` when its form is sent, else to null. */
function ask(dialog, value) {
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

export function askDelete(title) {
  byId("delete-name").textContent = title;
  return ask(byId("delete-dialog"), () => true);
}

export function askSystemPrompt(prompt) {
  const field = byId("system-field");
  field.value = prompt ?? "";
  return ask(byId("settings-dialog"), () => field.value.trim());
}

/** {key, keep}; `wrong` when one was tried before. */
export async function askKey(wrong) {
  const field = byId("key-field");
  const dialog = byId("key-dialog");
  field.value = "";
  dialog.querySelector(".wrong").hidden = !wrong;
  const key = await ask(dialog, () => field.value.trim());
  field.value = "";
  return key ? { key, keep: byId("key-keep").checked } : null;
}

export const showShortcuts = () => ask(byId("shortcuts-dialog"), () => true);
