// The field in which a message is written: Enter, growing with its text, send or stop.

import { byId } from "./dom.js";

export class Composer {
  #form = byId("composer");
  #field = byId("field");
  #button = byId("send");
  #busy = false;

  /** on: send(text), stop(), editLast() */
  constructor(on) {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#busy) return on.stop();
      const text = this.#field.value;
      if (!text.trim()) return;
      this.draft("");
      on.send(text);
    });
    this.#field.addEventListener("input", () => this.#fit());
    this.#field.addEventListener("keydown", (event) => {
      // 229: an input method is composing, and Enter only ends its word.
      if (event.isComposing || event.keyCode === 229) return;
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        if (!this.#busy) this.#form.requestSubmit();
      } else if (event.key === "ArrowUp" && this.#field.value === "" && !this.#busy) {
        event.preventDefault();
        on.editLast();
      }
    });
  }

  get text() {
    return this.#field.value;
  }

  draft(text) {
    this.#field.value = text;
    this.#fit();
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
