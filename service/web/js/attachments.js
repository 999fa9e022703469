// The images that go with the message being written: picked, pasted or dropped, each chat's own, until the tab is
// loaded anew (they are too large for what the browser keeps of a tab). Says where the model takes none. What is a text
// is put into the message.

import { byId, fromTemplate } from "./dom.js";
import { texts } from "./texts.js";

const MOST = 10;
export class Attachments {
  #tray = byId("tray");
  #offer = byId("offer");
  #on;
  #chat = null;
  #of = new Map(); // chat -> images, [{url}]
  #preparing = 0;

  /** on: changed(), failed(text), choose(model id), text(chat, block) */
  constructor(on) {
    this.#on = on;
    const picker = byId("picker");
    byId("attach").addEventListener("click", () => picker.click());
    picker.addEventListener("change", () => {
      this.add(picker.files);
      picker.value = "";
    });
    byId("field").addEventListener("paste", (event) => {
      const { files } = event.clipboardData;
      // A table or a page brings a picture of itself beside its text: the text is meant.
      if (!files.length || event.clipboardData.types.includes("text/plain")) return;
      event.preventDefault();
      this.add(files);
    });
    this.#takeDrops();
    this.#offer.querySelector("button").addEventListener("click", (event) => on.choose(event.target.dataset.model));
  }

  #takeDrops() {
    const root = document.documentElement;
    const over = (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault(); // else the browser leaves the page for the file
      root.toggleAttribute("data-dropping", event.type === "dragover");
      if (event.type === "drop" && !document.querySelector("dialog[open]")) this.add(event.dataTransfer.files);
    };
    addEventListener("dragover", over);
    addEventListener("drop", over);
    addEventListener("dragleave", (event) => event.relatedTarget === null && root.removeAttribute("data-dropping"));
  }

  get images() {
    return this.#of.get(this.#chat) ?? [];
  }

  /** True while an image is being made ready. */
  get preparing() {
    return this.#preparing > 0;
  }

  async add(files) {
    const chat = this.#chat;
    const all = [...files]; // a field's and an event's list are emptied in a moment
    this.#preparing++;
    this.#on.changed();
    for (const file of all) {
      try {
        if (!file.type.startsWith("image/")) {
          const { quoted } = await import("./textfile.js");
          this.#on.text(chat, await quoted(file));
          continue;
        }
        const { prepared } = await import("./pictures.js");
        const image = { url: await prepared(file) };
        const images = this.#of.get(chat) ?? [];
        if (images.length < MOST) this.#of.set(chat, [...images, image]);
        else this.#on.failed(texts.mostImages(MOST));
      } catch {
        this.#on.failed(texts.notTaken(file.name));
      }
    }
    this.#preparing--;
    this.#changed();
  }

  open(chat) {
    this.#chat = chat;
    this.#changed();
  }

  /** What there is, and from now on nothing. */
  take() {
    const { images } = this;
    this.#of.delete(this.#chat);
    this.#changed();
    return images;
  }

  giveBack(images) {
    if (images.length) this.#of.set(this.#chat, [...images, ...this.images].slice(0, MOST));
    this.#changed();
  }

  #changed() {
    this.#tray.hidden = !this.images.length;
    this.#tray.replaceChildren(...this.images.map((image, i) => this.#item(image, i + 1)));
    this.#on.changed();
  }

  #item(image, number) {
    const item = fromTemplate("attached-template");
    const [shown, remove] = item.children;
    shown.src = image.url ?? "";
    shown.alt = texts.image(number);
    remove.setAttribute("aria-label", texts.removeImage(number));
    remove.addEventListener("click", () => {
      this.#of.set(this.#chat, this.images.filter((other) => other !== image));
      this.#changed();
      byId("field").focus();
    });
    return item;
  }

  /** Where the chosen model takes no images, say so and offer one that does. */
  offer(select) {
    const [words, button] = this.#offer.children;
    const chosen = select.selectedOptions[0];
    this.#offer.hidden = !this.images.length || !chosen || chosen.dataset.images !== "no";
    if (this.#offer.hidden) return;
    const other = select.querySelector("[data-images=yes]");
    button.hidden = !other;
    button.dataset.model = other?.value ?? "";
    button.textContent = texts.use(other?.text ?? "");
    words.textContent = other ? texts.takesNoImages(chosen.text) : texts.noneTakesImages;
  }
}
