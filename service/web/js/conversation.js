// The messages of the open session on the page: history in pages, the newest first, and the answer
// that is being written. What a click in here means is told to `on`; nothing is sent from here.

import { byId, copy, fromTemplate } from "./dom.js";
import { AnswerView, UserView } from "./message.js";
import { imagesOf } from "./question.js";
import { Scroll } from "./scroll.js";
import { read } from "./speech.js";
import { callsOf } from "./tools.js";

export class Conversation {
  #list = byId("messages");
  #earlier = byId("earlier");
  #welcome = byId("welcome");
  #state = byId("state");
  #views = [];
  #on;
  #scroll;

  /** on: picture(ref) -> its data URL, version(id), earlier(), edit(id, text) -> was it taken, regenerate(), branch(answer), again(), now(), cancel(), continued(), reload(), fresh() */
  constructor(on) {
    this.#on = on;
    this.#scroll = new Scroll({
      box: byId("scroll"), content: this.#list, jump: byId("jump"), earlier: this.#earlier, onEarlier: on.earlier,
    });
    this.#list.addEventListener("click", (event) => this.#click(event.target.closest("[data-do]")));
    this.#earlier.addEventListener("click", on.earlier);
    this.#state.addEventListener("click", (event) => on[event.target.closest("[data-do]")?.dataset.do]?.());
  }

  get lastUser() {
    return this.#views.findLast((view) => view.role === "user");
  }

  get last() {
    return this.#views.at(-1);
  }

  /** What was asked, as far as it is loaded. */
  get questions() {
    return this.#views.filter((view) => view.role === "user").map((view) => view.text);
  }

  has(id) {
    return this.#views.some((view) => view.id === id);
  }

  clear() {
    this.#views = [];
    this.#list.replaceChildren();
    this.#list.setAttribute("aria-busy", "true"); // history is not read out as news
    this.#welcome.hidden = true;
    this.#earlier.hidden = true;
    this.state(null);
  }

  welcome() {
    this.clear();
    this.#welcome.hidden = false;
    this.#scroll.toStart();
  }

  /** Say what is the matter with the chat as a whole: "loading", "failed" or "gone"; null is nothing. */
  state(kind, words = "") {
    const [text, again, fresh] = this.#state.children;
    this.#state.hidden = kind === null;
    this.#state.dataset.kind = kind ?? "";
    if (text.textContent !== words) text.textContent = words;
    again.hidden = kind !== "failed";
    fresh.hidden = kind !== "gone";
    if (kind === "gone") this.#scroll.toEnd();
  }

  /** Messages, oldest first; `more` where there are earlier ones. */
  show(messages, more) {
    this.clear();
    this.#put(this.#viewsOf(messages), null);
    this.#offerVersions(messages);
    this.#earlier.hidden = !more;
    this.#welcome.hidden = this.#views.length > 0;
    this.#scroll.toEnd();
    this.#news();
  }

  /** The newest messages as they are now; false where they have nothing in common with what is shown. */
  update(messages) {
    const begin = messages.length ? this.#views.findIndex((view) => same(view, messages[0])) : 0;
    if (begin < 0) return false;
    let i = 0;
    for (; i < messages.length && this.#views[begin + i] && same(this.#views[begin + i], messages[i]); i++) {
      const view = this.#views[begin + i];
      if (view.role === "user") view.say(messages[i].content, imagesOf(messages[i]));
      else view.call(callsOf(messages[i]));
    }
    while (this.#views.length > begin + i) this.#drop(this.last);
    this.#put(this.#viewsOf(messages.slice(i)), null);
    this.#offerVersions(messages);
    this.#welcome.hidden = this.#views.length > 0;
    this.#scroll.keep();
    return true;
  }

  prepend(messages, more) {
    this.#list.setAttribute("aria-busy", "true");
    this.#scroll.above(() => this.#put(this.#viewsOf(messages), this.#list.firstElementChild));
    this.#offerVersions(messages);
    this.#earlier.hidden = !more;
    this.#news();
  }

  #viewsOf(messages) {
    return messages.map((message) => {
      if (message.role !== "user") return AnswerView.of(message);
      return new UserView({ ...message, text: message.content, images: imagesOf(message) }, this.#on.picture);
    });
  }

  #put(views, before) {
    const fragment = document.createDocumentFragment();
    fragment.append(...views.map((view) => view.element));
    this.#list.insertBefore(fragment, before);
    this.#views = before ? [...views, ...this.#views] : [...this.#views, ...views];
  }

  /** From now on additions are news. */
  #news() {
    requestAnimationFrame(() => this.#list.removeAttribute("aria-busy"));
  }

  addUser(message) {
    this.#welcome.hidden = true;
    this.#put([new UserView(message, this.#on.picture)], null);
    this.#scroll.toEnd();
    this.#news();
  }

  /** The place of an answer that is about to grow. */
  beginAnswer(answer, turn = null) {
    const same = answer.goesOn || (turn !== null && this.last?.turn === turn);
    if (same && this.last?.role === "assistant") this.#drop(this.last);
    const view = new AnswerView(() => this.#scroll.keep());
    view.turn = turn;
    this.#put([view], null);
    view.follow(answer);
    this.#scroll.toEnd();
    return view;
  }

  /** How the turn of a user message ended that has no answer. */
  addEnd(state, error) {
    const view = AnswerView.none(state, error);
    view.versions.show(this.last.unanswered, Date.now());
    this.#put([view], null);
  }

  /** Messages have the versions of what stood in their places; of a question without an answer those of the answer too. */
  #offerVersions(messages) {
    for (const { id, role, turn_id, created, versions = [] } of messages) {
      const view = this.#views.find((one) => one.role === role && (role === "user" ? one.id === id : one.turn === turn_id));
      const [own, others] = [true, false].map((mine) => versions.filter((one) => (one.role === role) === mine));
      Object.assign(view, { id, turn: turn_id, created, unanswered: others });
      view.versions.show(own, created);
    }
  }

  async #toVersion(view, step, what) {
    const place = this.#views.indexOf(view);
    await this.#on.version(view.versions.beside(step));
    const group = this.#views[place]?.element.querySelector(".versions");
    (group?.querySelector(`[data-do=${what}]:enabled`) ?? group?.querySelector("button:enabled"))?.focus();
  }

  /** Forget what follows a user message. */
  dropAfter(id) {
    while (this.last && this.last.id !== id) this.#drop(this.last);
  }

  #drop(view) {
    view.element.remove();
    this.#views = this.#views.filter((other) => other !== view);
  }

  /** Forget a user message that the service did not take, and what follows it. */
  dropFrom(id) {
    if (!this.has(id)) return;
    this.dropAfter(id);
    this.#drop(this.last);
  }

  /** A user message says something else, with the same images; what follows it goes. */
  rewrite(id, text) {
    this.dropAfter(id);
    this.last?.say(text, this.last.images);
  }

  imagesOf(id) {
    return this.#views.find((other) => other.id === id)?.images ?? [];
  }

  /** Let a user message be edited in place. */
  edit(id) {
    const view = this.#views.find((other) => other.id === id);
    if (!view || view.element.querySelector(".editor")) return;
    const form = fromTemplate("edit-template");
    const field = form.querySelector("textarea");
    const close = () => {
      form.remove();
      delete view.element.dataset.editing;
      view.element.querySelector("[data-do=edit]").focus();
    };
    const send = () => {
      const text = field.value;
      if ((text.trim() || view.images.length) && this.#on.edit(id, text)) close();
    };
    field.value = view.text;
    field.rows = Math.min(12, view.text.split("\n").length + 1);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
      else if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.target !== field) return;
      else send();
      event.preventDefault();
      event.stopPropagation();
    });
    form.querySelector("[data-do=cancel]").addEventListener("click", (event) => {
      event.stopPropagation();
      close();
    });
    view.element.dataset.editing = "";
    view.element.append(form);
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  #click(button) {
    if (!button) return;
    const view = this.#views.find((other) => other.element.contains(button));
    const what = button.dataset.do;
    if (what === "copy") copy(view.text, button);
    else if (what === "copy-code") copy(button.closest("figure").querySelector("pre").textContent, button);
    else if (what === "edit") this.edit(view.id);
    else if (what === "speak") read(view.element.querySelector(".text"), button);
    else if (what === "unfold") view.unfold();
    else if (what === "older") this.#toVersion(view, -1, what);
    else if (what === "newer") this.#toVersion(view, 1, what);
    else this.#on[what]?.(view);
  }

  /** Copy the newest answer that has ended; false where there is none. */
  copyLast() {
    const view = this.#views.findLast(({ role, text, element }) => role !== "user" && text && !element.hasAttribute("aria-busy"));
    if (view) copy(view.text, view.element.querySelector("[data-do=copy]"));
    return Boolean(view);
  }
}

/** Is that the view of this message? An answer that has grown here has no id of its own. */
function same(view, { role, id, turn_id, content }) {
  if (view.role !== role) return false;
  return role === "user" ? view.id === id : view.turn === turn_id && view.text === content;
}
