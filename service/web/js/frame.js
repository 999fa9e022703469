// What is around the conversation: the drawer with the sessions, the theme, the models, the prompts.

import { byId } from "./dom.js";
import { keepLanguage, keepTheme, keptLanguage, theme } from "./keep.js";
import { LANGUAGES, texts } from "./texts.js";

export function themeButton() {
  const button = byId("theme");
  const show = (value) => {
    if (value) document.documentElement.dataset.theme = value;
    else delete document.documentElement.dataset.theme;
    button.querySelector("span").textContent = texts.theme(texts.themes[value]);
  };
  show(theme() ?? "");
  button.addEventListener("click", () => {
    const order = Object.keys(texts.themes);
    const value = order[(order.indexOf(theme() ?? "") + 1) % order.length];
    keepTheme(value || null);
    show(value);
  });
}

/** The language of the page: the browser's, or one that was chosen. Another one begins with the page. */
export function languageButton() {
  const button = byId("language");
  const order = ["", ...Object.keys(LANGUAGES)];
  const value = keptLanguage() ?? "";
  button.querySelector("span").textContent = texts.language(LANGUAGES[value] ?? texts.ownLanguage);
  button.addEventListener("click", () => {
    keepLanguage(order[(order.indexOf(value) + 1) % order.length] || null);
    location.reload();
  });
}

/** The list of sessions: beside the conversation on wide screens, a drawer above it on narrow ones. */
export class Drawer {
  #root = document.documentElement;
  #button = byId("menu");
  #side = byId("sidebar");
  #narrow = matchMedia("(max-width: 820px)");

  constructor() {
    this.#button.addEventListener("click", () => this.set(!this.open));
    byId("sidebar-close").addEventListener("click", () => this.set(false));
    byId("scrim").addEventListener("click", () => this.set(false));
    this.#narrow.addEventListener("change", () => this.set(!this.#narrow.matches));
    this.set(!this.#narrow.matches, false);
  }

  get open() {
    return this.#root.dataset.drawer === "open";
  }

  get covers() {
    return this.open && this.#narrow.matches;
  }

  set(open, focus = true) {
    const covered = this.covers;
    this.#root.dataset.drawer = open ? "open" : "closed";
    this.#button.setAttribute("aria-expanded", String(open));
    this.#side.inert = !open;
    document.querySelector("main").inert = this.covers;
    if (!focus) return;
    if (this.covers) byId("sidebar-close").focus();
    else if (covered) this.#button.focus();
  }

  /** After a choice was made in it. */
  chosen() {
    if (this.covers) this.set(false);
  }
}

export function prompts(use) {
  for (const [name, text] of texts.prompts) {
    const button = document.createElement("button");
    const [title, words] = [document.createElement("strong"), document.createElement("span")];
    button.type = "button";
    title.textContent = name;
    words.textContent = text;
    button.append(title, words);
    button.addEventListener("click", () => use(text));
    byId("prompts").append(button);
  }
}

/** Fill the choice of models; the default one stands for "none chosen". */
export function models(select, list) {
  select.replaceChildren(
    ...list.map((model) => {
      const option = new Option(model.id.split("/").pop(), model.id);
      option.title = model.id;
      option.dataset.default = model.default ? "yes" : "no";
      option.dataset.images = model.input_modalities?.includes("image") ? "yes" : "no";
      return option;
    }),
  );
}

/** `own`: the chat's model, shown also where it is not offered any more; `last`: that of new chats, if it still is. */
export function chooseModel(select, own, last) {
  const offered = (id) => [...select.options].some((option) => option.value === id);
  if (own && !offered(own)) select.add(new Option(own, own));
  const fallback = select.querySelector("[data-default=yes]")?.value ?? "";
  select.value = own ?? (offered(last) ? last : fallback);
}

/** What is chosen; null for the service's own choice, which may change. */
export function chosen(select) {
  const option = select.selectedOptions[0];
  return !option || option.dataset.default === "yes" ? null : option.value;
}
