// The field in which a message is written: Enter, growing with its text, send or stop; what is in it is
// kept for its chat until it is sent. Images beside it: attachments.js.

import { Attachments } from "./attachments.js";
import { byId } from "./dom.js";
import { draft, keepDraft } from "./keep.js";
import { texts } from "./texts.js";

// On a screen that is touched there is no Shift: Enter makes a line, the button sends.
const touched = matchMedia("(hover: none) and (pointer: coarse)");

export class Composer {
  #form = byId("composer");
  #field = byId("field");
  #button = byId("send");
  #busy = false;
  #chat = undefined; // the id of the chat that the text is for, null for a new one

  #attached;

  /**
   * on: send(text, images) -> false where it was not taken, early() while an answer runs, stop(), editLast(),
   * failed(text), choose(model id), attached()
   */
  constructor(on) {
    const { failed, choose } = on;
    const text = (chat, block) => this.#add(chat, block);
    const changed = () => {
      this.#fit();
      on.attached();
    };
    this.#attached = new Attachments({ failed, choose, changed, text });
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#busy) return on.stop();
      const text = this.#field.value;
      if (!this.#ready) return;
      this.draft("");
      const images = this.#attached.take();
      if (on.send(text, images) !== false) return;
      this.draft(text);
      this.#attached.giveBack(images);
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
        else if (this.#ready) on.early();
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

  /** True where there is something to send. */
  get #ready() {
    return !this.#attached.preparing && Boolean(this.#field.value.trim() || this.#attached.images.length);
  }

  /** All that has been written, and from now on nothing: {text, images}. */
  take() {
    const text = this.#field.value;
    this.draft("");
    return { text, images: this.#attached.take() };
  }

  /** Where the model that is chosen takes no images, offer one that does. */
  offer(select) {
    this.#attached.offer(select);
  }

  /** Write for another chat: its draft comes, the one that was here stays with its own. */
  open(chat) {
    if (chat === this.#chat) return;
    this.#chat = chat;
    this.#field.value = draft(chat);
    this.#attached.open(chat);
    this.#fit();
  }

  draft(text) {
    this.#field.value = text;
    keepDraft(this.#chat, text);
    this.#fit();
  }

  /** A text goes below what is written for a chat. */
  #add(chat, block) {
    const all = [chat === this.#chat ? this.#field.value : draft(chat), block].filter((part) => part.trim()).join("\n\n");
    if (chat === this.#chat) this.draft(all);
    else keepDraft(chat, all);
  }

  /** What was sent and not taken comes back, before what has been written since. */
  giveBack({ text, images = [] }) {
    const since = this.#field.value;
    if (text) this.draft(since.trim() && since !== text ? `${text}\n\n${since}` : text);
    this.#attached.giveBack(images);
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
    this.#button.setAttribute("aria-label", yes ? texts.stopAnswer : texts.send);
    this.#button.querySelector("use").setAttribute("href", yes ? "#i-stop" : "#i-send");
    this.#fit();
  }

  #fit() {
    this.#button.disabled = !this.#busy && !this.#ready;
    if (CSS.supports("field-sizing", "content")) return;
    this.#field.style.height = "auto";
    this.#field.style.height = `${this.#field.scrollHeight}px`;
  }
}
