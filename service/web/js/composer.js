// The field in which a message is written: Enter, growing with its text, send or stop; what is in it is
// kept for its chat until it is sent.

import { byId } from "./dom.js";
import { draft, keepDraft } from "./keep.js";

// On a screen that is touched there is no Shift: Enter makes a line, the button sends.
const touched = matchMedia("(hover: none) and (pointer: coarse)");

export class Composer {
  #form = byId("composer");
  #field = byId("field");
  #button = byId("send");
  #busy = false;
  #chat = undefined; // the id of the chat that the text is for, null for a new one

  /** on: send(text) -> false where it was not taken, early() while an answer runs, stop(), editLast() */
  constructor(on) {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#busy) return on.stop();
      const text = this.#field.value;
      if (!text.trim()) return;
      this.draft("");
      if (on.send(text) === false) this.draft(text);
    });
    this.#field.addEventListener("input", () => {
      keepDraft(this.#chat, this.#field.value);
      this.#fit();
    });
    this.#field.addEventListener("keydown", (event) => {
      // 229: an input method is composing, and Enter only ends its word.
      if (event.isComposing || event.keyCode === 229) return;
      if (event.key === "Enter" && this.#sends(event)) {
        event.preventDefault();
        if (!this.#busy) this.#form.requestSubmit();
        else if (this.#field.value.trim()) on.early();
      } else if (event.key === "ArrowUp" && this.#field.value === "" && !this.#busy) {
        event.preventDefault();
        on.editLast();
      }
    });
    touched.addEventListener("change", () => this.#hint());
    this.#hint();
  }

  #sends(event) {
    return event.ctrlKey || event.metaKey || (!event.shiftKey && !touched.matches);
  }

  #hint() {
    this.#field.enterKeyHint = touched.matches ? "enter" : "send";
  }

  get text() {
    return this.#field.value;
  }

  /** Write for another chat: its draft comes, the one that was here stays with its own. */
  open(chat) {
    if (chat === this.#chat) return;
    this.#chat = chat;
    this.#field.value = draft(chat);
    this.#fit();
  }

  draft(text) {
    this.#field.value = text;
    keepDraft(this.#chat, text);
    this.#fit();
  }

  /** Text that was sent and not taken comes back, before what has been written since. */
  giveBack(text) {
    const since = this.#field.value;
    this.draft(since.trim() && since !== text ? `${text}\n\n${since}` : text);
  }

  focus() {
    this.#field.focus({ preventScroll: true });
  }

  /** To be ready for typing, but not where that brings up a keyboard nobody asked for. */
  invite() {
    if (matchMedia("(hover: hover)").matches) this.focus();
  }

  busy(yes) {
    this.#busy = yes;
    this.#button.dataset.stop = yes ? "yes" : "no";
    this.#button.setAttribute("aria-label", yes ? "Stop the answer" : "Send");
    this.#button.querySelector("use").setAttribute("href", yes ? "#i-stop" : "#i-send");
    this.#fit();
  }

  #fit() {
    this.#button.disabled = !this.#busy && !this.#field.value.trim();
    if (CSS.supports("field-sizing", "content")) return;
    this.#field.style.height = "auto";
    this.#field.style.height = `${this.#field.scrollHeight}px`;
  }
}
