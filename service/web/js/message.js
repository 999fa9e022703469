// The views of one message: what a user said, and an answer that may still be growing.
// A growing answer is drawn at most once per frame, and less often where a frame is dear.

import { countDown, fromTemplate } from "./dom.js";
import { Drawing } from "./drawing.js";
import { texts } from "./texts.js";
import { Calls, callsOf } from "./tools.js";
import { Versions } from "./versions.js";
import { duration, facts, sentence, when } from "./words.js";

// A question beyond this many characters or lines is folded: nobody scrolls past 11,000 px to the answer. What is
// beyond the characters is not even laid out then.
const FOLD_CHARACTERS = 2000;
const FOLD_LINES = 24;
// Drawing may take this share of the time: a 50 kB paragraph on a phone then draws every 100 ms.
const DRAWING_SHARE = 1 / 4;

export class UserView {
  role = "user";

  #picture;
  #drawn = []; // the images that are shown, or will be when what draws them is there
  images = [];

  /** `picture(ref)` resolves to the data URL of an image that is kept with the session. */
  constructor({ id, text, images = [], turn_id, created = 0 }, picture) {
    this.id = id;
    this.created = created;
    this.turn = turn_id;
    this.element = fromTemplate("user-template");
    this.element.dataset.id = id;
    this.versions = new Versions(this.element.querySelector(".versions"));
    this.#picture = picture;
    this.say(text, images);
  }

  get text() {
    return this.element.querySelector(".bubble").textContent;
  }

  say(text, images) {
    this.#show(images);
    const bubble = this.element.querySelector(".bubble");
    if (bubble.textContent === text) return;
    const rest = document.createElement("span");
    rest.className = "rest";
    rest.textContent = text.slice(FOLD_CHARACTERS);
    bubble.replaceChildren(text.slice(0, FOLD_CHARACTERS), rest);
    const long = text.length > FOLD_CHARACTERS || text.split("\n", FOLD_LINES + 1).length > FOLD_LINES;
    this.#fold(long ? "folded" : null);
  }

  async #show(images) {
    const same = images.length === this.images.length && images.every((image, i) => sameImage(image, this.images[i]));
    this.images = images;
    if (same) return;
    this.#drawn = images;
    const place = this.element.querySelector(".pictures");
    place.hidden = !images.length;
    const { picture } = await import("./pictures.js");
    if (images === this.#drawn) place.replaceChildren(...images.map((image, i) => picture(image, i + 1, this.#picture)));
  }

  /** Show all of a long text, or its beginning. */
  unfold() {
    this.#fold(this.element.dataset.fold === "folded" ? "open" : "folded");
  }

  #fold(state) {
    const button = this.element.querySelector("[data-do=unfold]");
    button.hidden = state === null;
    button.setAttribute("aria-expanded", String(state === "open"));
    button.textContent = state === "open" ? texts.showLess : texts.showAll;
    if (state) this.element.dataset.fold = state;
    else delete this.element.dataset.fold;
  }
}

/** One that was sent from here has its own URL; the service knows it by its sum. */
const sameImage = (one, other) =>
  (one.ref === other.ref && one.url === other.url) || [one, other].some(({ url }) => url?.startsWith("data:"));

export class AnswerView {
  role = "assistant";
  id = null;
  created = 0;
  text = "";
  failed = false;
  error = null;
  calls = [];
  #calls;
  #parts = {};
  #blocks;
  #answer = null;
  #frame = 0;
  #notBefore = 0;
  #endCount = () => {};
  #onDraw;

  constructor(onDraw = () => {}) {
    this.#onDraw = onDraw;
    this.element = fromTemplate("answer-template");
    this.#calls = new Calls(this.element.querySelector(".calls"));
    for (const name of ["reasoning", "thoughts", "text", "waiting", "link", "failure", "cut", "note", "facts"]) {
      this.#parts[name] = this.element.querySelector(`.${name}`);
    }
    this.#blocks = new Drawing(this.#parts.text);
    this.versions = new Versions(this.element.querySelector(".versions"));
  }

  /** An answer of the history. */
  static of({ id, content, reasoning = "", state, turn_id, finish_reason, created, model, usage, parts }) {
    const view = new AnswerView();
    view.call(callsOf({ parts }));
    view.id = id;
    view.turn = turn_id;
    view.#reason(reasoning, false);
    view.text = content;
    view.#blocks.finish(content);
    view.created = created;
    view.#finished({ state, finishReason: finish_reason, model, usage, created });
    return view;
  }

  /** In the place of an answer that ended without a word. */
  static none(state, error) {
    const view = new AnswerView();
    view.#finished({ state, error });
    return view;
  }

  /** Show an answer that grows; call `changed` when it has. */
  follow(answer) {
    this.#answer = answer;
    this.element.setAttribute("aria-busy", "true");
    this.#draw();
  }

  changed() {
    this.#frame ||= requestAnimationFrame((now) => {
      this.#frame = 0;
      if (now < this.#notBefore) return this.changed();
      this.#draw();
      this.#notBefore = now + (performance.now() - now) * (1 / DRAWING_SHARE - 1);
    });
  }

  #draw() {
    const { text, reasoning, calls, ended } = this.#answer;
    const parts = this.#parts;
    if (text.length < this.text.length) {
      // A restart: the page keeps its height and what it shows until there is something instead.
      parts.text.style.minHeight = `${parts.text.offsetHeight}px`;
    }
    parts.text.toggleAttribute("data-void", text === "" && parts.text.hasChildNodes());
    this.text = text;
    if (text) this.#blocks.update(text);
    this.#reason(reasoning, !text && !ended);
    this.call(calls, !ended);
    parts.waiting.hidden = Boolean(text || parts.text.hasChildNodes() || ended);
    this.#onDraw();
  }

  /** Show the tools that it has called. */
  call(calls, running = false) {
    this.calls = calls;
    this.#calls.show(calls, running);
  }

  #reason(reasoning, thinking) {
    const { reasoning: details, thoughts } = this.#parts;
    details.hidden = !reasoning;
    details.toggleAttribute("data-thinking", thinking);
    details.querySelector("span").textContent = thinking ? texts.thinking : texts.reasoning;
    if (thoughts.textContent !== reasoning) thoughts.textContent = reasoning;
  }

  /** The answer has ended: draw all of it now, frames or not. */
  end() {
    cancelAnimationFrame(this.#frame);
    this.#draw();
    this.#blocks.finish(this.#answer.text, () => this.element.removeAttribute("aria-busy"));
    this.#parts.text.style.minHeight = "";
    this.#parts.text.removeAttribute("data-void");
    this.#finished(this.#answer);
    this.#onDraw();
  }

  #finished({ state, error = null, finishReason = null, model = null, usage = null, created = Date.now() }) {
    this.link(null);
    this.#parts.facts.textContent = facts({ model, usage, created });
    this.element.toggleAttribute("data-empty", !this.text);
    const cut = state === "completed" ? texts.cuts[finishReason] : undefined;
    const notes = { stopped: texts.stopped, completed: this.text || cut || this.calls.length ? "" : texts.noText };
    this.#parts.note.textContent = notes[state] ?? "";
    this.#parts.cut.hidden = cut === undefined;
    this.#parts.cut.firstElementChild.textContent = cut ?? "";
    if (state === "failed") this.fail(error);
  }

  /** Say that the answer failed; an error is told in words, its absence as well. */
  fail(error) {
    this.link(null);
    this.failed = true;
    this.error = error;
    const what = error ? `${sentence(error)}${when(error)}` : texts.brokeOff;
    this.#parts.failure.firstElementChild.textContent =
      error && this.text ? `${what} ${texts.brokeOffHere}` : what;
    this.#parts.failure.hidden = false;
    this.#parts.waiting.hidden = true;
  }

  /** What is wrong with the line, quietly: null, or {kind, error, seconds} of a stream. */
  link(state) {
    this.#endCount();
    const { link, failure, waiting } = this.#parts;
    const [words, ...buttons] = link.children;
    link.hidden = state === null;
    words.textContent = "";
    if (state === null) return;
    link.dataset.kind = state.kind;
    buttons.forEach((button) => (button.hidden = state.kind !== "waiting"));
    if (state.kind === "waiting") {
      failure.hidden = waiting.hidden = true;
      const what = sentence(state.error);
      this.#endCount = countDown(words, state.seconds, (left) => `${what} ${texts.tryingIn(duration(left))}`);
    } else {
      words.textContent = state.kind === "offline" ? texts.offlineNow : texts.reconnectingNow;
    }
  }
}
