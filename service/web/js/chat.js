// The open session: what is sent, followed, stopped, regenerated and edited, and how it all comes
// back after a reload. Owns the one running stream. Draws nothing itself: it tells the views.

import { Answer } from "./answer.js";
import { ApiError } from "./api.js";
import { newId } from "./ids.js";
import { keepPending, pending } from "./keep.js";
import { Stream } from "./stream.js";
import { duration, sentence, title } from "./words.js";

// Messages per page of history: a few screens.
const PAGE = 40;
// A send that was under way when the page went is sent again by then (ms), else given back as a draft.
const RESEND_WITHIN = 10 * 60_000;
// A failed answer that names a wait up to this (s) is asked for again by itself, this often.
const AGAIN_WITHIN = 60;
const AGAIN_TIMES = 3;

const blank = (defaults = {}) => ({ id: null, title: null, model: null, system_prompt: null, ...defaults });

export class Chat {
  session = blank();
  #api;
  #conversation;
  #ui;
  #stream = null;
  #view = null;
  #pending = null;
  #again = null; // {timer, left} of an automatic repeat
  #opening = null;
  #cursor = null;

  /** ui: changed(), draft(text), notify(text), say(text), show(sessionId) */
  constructor({ api, conversation, ui }) {
    this.#api = api;
    this.#conversation = conversation;
    this.#ui = ui;
  }

  get busy() {
    return this.#stream !== null || this.#again?.timer !== undefined;
  }

  get #path() {
    return `v1/sessions/${encodeURIComponent(this.session.id)}`;
  }

  // Open and leave

  async open(id, defaults) {
    this.leave();
    const opening = (this.#opening = {});
    this.session = blank({ id, ...defaults });
    this.#cursor = null;
    this.#again = null;
    this.#ui.changed();
    if (id === null) return this.#conversation.welcome();
    this.#conversation.clear();
    const kept = pending(id);
    try {
      // In this order: an answer that ends in between is in the messages.
      const session = await this.#api.json("GET", this.#path);
      const page = await this.#page();
      if (opening !== this.#opening) return;
      this.session = session;
      this.#cursor = page.next;
      this.#conversation.show(page.data.reverse(), page.next !== null);
    } catch (error) {
      if (opening !== this.#opening) return;
      if (!(error instanceof ApiError)) throw error;
      if (error.code !== "session_not_found" || !kept?.create) return this.#lost(error);
      this.#conversation.show([], false); // its first send was cut off before it arrived
    }
    this.#ui.changed();
    await this.#resume(kept);
  }

  #lost(error) {
    this.#ui.notify(sentence(error));
    if (error.status === 404) this.#ui.show(null);
  }

  /** Go on where this tab, another one or the service is. */
  async #resume(kept) {
    const { active_turn: active } = this.session;
    if (kept?.turn && kept.turn === active) return this.#follow(active, Answer.from(kept));
    keepPending(this.session.id, null);
    if (kept && !kept.turn && kept.body) {
      if (Date.now() - kept.at < RESEND_WITHIN) return this.#resend(kept);
      this.#ui.draft(kept.body.content ?? kept.body.edit?.content ?? "");
    }
    if (active) return this.#follow(active, new Answer());
    const last = this.#conversation.last;
    if (last && (last.role === "user" || last.failed) && last.turn) await this.#explain(last);
  }

  /** Why the last answer is missing or broken. */
  async #explain(last) {
    const { session } = this;
    const turn = await this.#api.json("GET", `${this.#path}/turns/${last.turn}`).catch(() => null);
    if (!turn || session !== this.session || this.busy) return;
    const error = turn.error && { ...turn.error, retryAfter: null };
    if (last.role === "user") this.#conversation.addEnd(turn.state, error);
    else last.fail(error);
  }

  #page() {
    const cursor = this.#cursor === null ? "" : `&cursor=${encodeURIComponent(this.#cursor)}`;
    return this.#api.json("GET", `${this.#path}/messages?order=desc&limit=${PAGE}${cursor}`);
  }

  /** The page of history before what is shown. */
  async earlier() {
    if (this.#cursor === null || this.#earlier) return;
    const { session } = this;
    this.#earlier = true;
    try {
      const page = await this.#page();
      if (session !== this.session) return;
      this.#cursor = page.next;
      this.#conversation.prepend(page.data.reverse(), page.next !== null);
    } catch (error) {
      this.#ui.notify(sentence(error));
    } finally {
      this.#earlier = false;
    }
  }
  #earlier = false;

  /** Keep what is needed to come back; called when the page may go away as well. */
  remember() {
    const { id } = this.session;
    if (!this.#stream || id === null) return;
    const { turn, answer } = this.#stream;
    keepPending(id, { ...this.#pending, turn, ...(turn ? answer.snapshot() : {}) });
  }

  leave() {
    this.remember();
    this.#stream?.leave();
    clearTimeout(this.#again?.timer);
    this.#stream = this.#view = this.#pending = this.#again = null;
  }

  nudge() {
    this.#stream?.nudge();
  }

  // Send

  send(text) {
    const fresh = this.session.id === null;
    if (fresh) {
      this.session = { ...this.session, id: newId("s"), title: title(text) };
      this.#ui.show(this.session.id);
    }
    const message = { id: newId("m"), content: text };
    this.#conversation.addUser(message);
    const { id, title: name, model, system_prompt } = this.session;
    this.#begin({
      create: fresh ? { id, title: name, model, system_prompt } : null,
      body: { content: text, message_id: message.id },
    });
    if (!fresh && !this.session.title) this.change({ title: title(text) });
  }

  /** False while an answer is running. */
  edit(messageId, text) {
    if (this.busy) {
      this.#ui.notify("An answer is running. Stop it first.");
      return false;
    }
    this.#conversation.dropAfter(messageId);
    this.#conversation.rewrite(messageId, text);
    this.#begin({ body: { edit: { message_id: messageId, content: text } } });
    return true;
  }

  regenerate() {
    if (this.busy || !this.#conversation.lastUser) return;
    this.#conversation.dropAfter(this.#conversation.lastUser.id);
    this.#begin({ body: { regenerate: true } });
  }

  /** Asked for by hand after a failure. */
  retry() {
    clearTimeout(this.#again?.timer);
    this.#again = null;
    this.regenerate();
  }

  #begin(send) {
    this.#run({ send: { key: newId("k"), at: Date.now(), ...send }, answer: new Answer() });
  }

  #resend(kept) {
    const { content, message_id, edit } = kept.body;
    const id = message_id ?? edit?.message_id ?? this.#conversation.lastUser?.id;
    if (content !== undefined && !this.#conversation.has(id)) this.#conversation.addUser({ id, content });
    else if (this.#conversation.lastUser?.id !== id && !edit) return; // the chat has gone on since
    this.#conversation.dropAfter(id);
    if (edit) this.#conversation.rewrite(id, edit.content);
    this.#run({ send: kept, answer: new Answer() });
  }

  #follow(turn, answer) {
    this.#run({ turn, answer });
  }

  async #run({ send = null, turn = null, answer }) {
    const view = this.#conversation.beginAnswer(answer, turn);
    const stream = new Stream({
      api: this.#api, session: this.session.id, send, turn, answer,
      on: {
        begun: () => {
          this.remember();
          this.#ui.changed();
        },
        changed: () => view.changed(),
        link: (state) => {
          view.link(state);
          if (state) this.#ui.say(state.error ? sentence(state.error) : "Reconnecting");
        },
      },
    });
    this.#stream = stream;
    this.#view = view;
    this.#pending = send;
    this.remember();
    this.#ui.changed();
    this.#ui.say("The answer has begun");
    const error = await stream.run();
    if (this.#stream !== stream) return;
    this.#stream = this.#pending = null;
    keepPending(this.session.id, null);
    if (error || !answer.ended) return this.#refused(error, send, stream.turn);
    view.turn = stream.turn;
    view.end();
    this.#ui.say({ completed: "The answer is complete", stopped: "Stopped" }[answer.state] ?? sentence(answer.error));
    if (answer.state === "failed") this.#repeat(answer.error);
    else this.#again = null;
    this.#ui.changed();
  }

  /** The send was not accepted (or was called off): nothing is lost, and the page shows what is true. */
  #refused(error, send, turn) {
    const { create, body } = send ?? {};
    if (!turn && body?.content !== undefined) this.#ui.draft(body.content);
    if (error) {
      const wait = error.retryAfter ? ` Try again in ${duration(error.retryAfter)}.` : "";
      this.#ui.notify(sentence(error) + wait);
    }
    if (create) this.#ui.show(null, { model: create.model, system_prompt: create.system_prompt });
    else this.open(this.session.id);
  }

  /** A failed answer that may work in a moment is asked for again. */
  #repeat(error) {
    const left = this.#again?.left ?? AGAIN_TIMES;
    if (!error.retryable || error.retryAfter === null || error.retryAfter > AGAIN_WITHIN || left === 0) {
      this.#again = null;
      return;
    }
    this.#again = { left: left - 1, timer: setTimeout(() => this.#regenerateAgain(), error.retryAfter * 1000) };
    this.#view.link({ kind: "waiting", error, seconds: error.retryAfter });
  }

  #regenerateAgain() {
    clearTimeout(this.#again?.timer);
    this.#again = { left: this.#again?.left ?? AGAIN_TIMES };
    this.regenerate();
  }

  // What one can do about a running answer

  async stop() {
    if (!this.#stream) return this.#callOff();
    try {
      await this.#stream.stop();
    } catch (error) {
      this.#ui.notify(`It could not be stopped. ${sentence(error)}`);
    }
  }

  #callOff() {
    if (!this.#again?.timer) return;
    clearTimeout(this.#again.timer);
    this.#again = null;
    this.#view.link(null);
    this.#view.fail(this.#view.error);
    this.#ui.changed();
  }

  /** Do not wait for the end of a countdown. */
  now() {
    if (this.#stream) this.#stream.hurry();
    else this.#regenerateAgain();
  }

  /** Change title, model or system prompt, here and in the store. */
  async change(fields) {
    this.session = { ...this.session, ...fields };
    this.#ui.changed();
    if (this.session.id === null) return;
    try {
      await this.#api.json("PATCH", this.#path, { body: fields });
      this.#ui.changed();
    } catch (error) {
      this.#ui.notify(`That was not saved. ${sentence(error)}`);
    }
  }
}
