// The open session: what is sent, followed, stopped, regenerated and edited, and how it all comes back after
// a reload. Owns the one running stream. Draws nothing itself: it tells the views.

import { Answer } from "./answer.js";
import { explainLast, History } from "./history.js";
import { newId } from "./ids.js";
import { keepPending, keepSettings, params, pending, settings } from "./keep.js";
import { contentOf, saidIn } from "./question.js";
import { Repeat } from "./repeat.js";
import { Stream } from "./stream.js";
import { texts } from "./texts.js";
import { Watch } from "./watch.js";
import { sentence, title, unwritable, when } from "./words.js";

// A send that was under way when the page went is sent again by then (ms), else given back as a draft.
const RESEND_WITHIN = 10 * 60_000;

const blank = (defaults = {}) => ({ id: null, title: null, model: null, system_prompt: null, turns: 0, ...defaults });
const GONE = "session_not_found";

export class Chat {
  session = blank();
  /** How answers are asked for in a new chat; later it is kept by its id. */
  params = {};
  /** "loading", "failed", "ready", or "gone": deleted or expired while it was open. */
  state = "ready";
  #api;
  #conversation;
  #ui;
  #stream = null;
  #view = null;
  #pending = null;
  #repeat = new Repeat(() => this.regenerate());
  #opening = null;
  #history = null;
  #recovery;
  #watch;
  #own = false; // the next change that the service tells of is this page's own

  /** ui: changed(), model(), giveBack({text, images}), notify(text, cause), settled(cause), say(text), show(sessionId), gone(sessionId) */
  constructor({ api, conversation, recovery, ui }) {
    this.#api = api;
    this.#conversation = conversation;
    this.#recovery = recovery;
    this.#ui = ui;
    this.#watch = new Watch(api, { changed: (fields) => this.#changedElsewhere(fields), deleted: () => this.#vanished() });
  }

  get busy() {
    return this.#stream !== null || this.#repeat.waiting;
  }

  get #path() {
    return `v1/sessions/${encodeURIComponent(this.session.id)}`;
  }

  async open(id, defaults) {
    this.leave();
    this.#recovery.drop("chat");
    this.#opening = null;
    const { system_prompt = null, ...params } = settings(null);
    this.params = params;
    this.session = blank({ id, ...(id === null ? { system_prompt } : {}), ...defaults });
    this.#history = null;
    this.state = id === null ? "ready" : "loading";
    this.#ui.changed();
    if (id === null) return this.#conversation.welcome();
    this.#conversation.clear();
    this.#conversation.state("loading", texts.loading);
    await this.load();
  }

  /** Read the open session; what fails is tried again. Nothing is written to it before. */
  load() {
    const opening = (this.#opening = {});
    return this.#recovery.load("chat", () => this.#load(opening));
  }

  async #load(opening) {
    const kept = pending(this.session.id);
    try {
      // In this order: an answer that ends in between is in the messages.
      const session = await this.#api.json("GET", this.#path);
      const history = new History(this.#api, this.#path);
      const messages = await history.newest();
      if (opening !== this.#opening) return;
      this.session = session;
      this.#history = history;
      this.#conversation.show(messages, history.more);
    } catch (error) {
      if (opening !== this.#opening) return;
      if (error.code !== GONE) {
        this.state = "failed";
        this.#conversation.state("failed", `${texts.notLoaded} ${sentence(error)}`);
        this.#ui.changed();
        throw error;
      }
      if (!kept?.create) return this.#missing(kept);
      this.#conversation.show([], false); // its first send was cut off before it arrived
    }
    this.state = "ready";
    this.#ui.changed();
    await this.#resume(kept);
    this.attend();
  }

  /** Watch what others do in the session, while it is open, seen, and no answer is being followed. */
  attend(wanted = !document.hidden) {
    if (wanted && this.session.id !== null && this.state === "ready" && !this.#stream) this.#watch.open(this.session.id);
    else this.#watch.close();
  }

  /** How the session is now. What has been asked or answered elsewhere is read; what this page did it knows. */
  #changedElsewhere(fields) {
    const was = this.session;
    const differs = (...names) => names.some((name) => fields[name] !== was[name]);
    const rewritten = !this.#own && differs("updated") && !differs("title", "model", "system_prompt");
    this.#own = false;
    this.session = { ...was, ...fields, turns: was.turns, active_turn: was.active_turn };
    this.#ui.changed();
    if (rewritten || differs("turns") || (fields.active_turn && !this.#stream)) this.sync();
  }

  /** Read what the newest messages are now. */
  sync() {
    return this.#recovery.load("sync", async () => {
      const history = (this.#history ??= new History(this.#api, this.#path));
      const session = await this.#api.json("GET", this.#path);
      const messages = await history.newest(true);
      if (history !== this.#history || this.busy || this.state !== "ready") return;
      this.session = session;
      if (!this.#conversation.update(messages)) return this.open(session.id); // more than a page has come
      this.#ui.changed();
      if (session.active_turn) this.#follow(session.active_turn, new Answer());
      else await this.#explainLast();
    });
  }

  /** There is no session under the address: what was sent to it is a draft for a new one. */
  #missing(kept) {
    keepPending(this.session.id, null);
    this.#ui.gone(this.session.id);
    this.#ui.notify(sentence({ code: GONE }));
    this.#ui.show(null);
    if (kept?.body?.content) this.#ui.giveBack(saidIn(kept.body.content));
  }

  /** The open session is no longer there: what is shown stays, and nothing is added to it. */
  #vanished() {
    const { id } = this.session;
    this.leave();
    keepPending(id, null);
    this.state = "gone";
    this.#conversation.state("gone", `${sentence({ code: GONE })} ${texts.allThatIsLeft}`);
    this.#ui.gone(id);
    this.#ui.changed();
  }

  /** True when the session may be written to; else says why not. */
  #writable() {
    if (this.state !== "ready") this.#ui.notify(unwritable(this.state));
    return this.state === "ready";
  }

  /** Go on where this tab, another one or the service is. */
  async #resume(kept) {
    const { active_turn: active } = this.session;
    if (kept?.turn && kept.turn === active) return this.#follow(active, Answer.from(kept));
    keepPending(this.session.id, null);
    if (kept && !kept.turn && kept.body) {
      if (Date.now() - kept.at < RESEND_WITHIN) return this.#resend(kept);
      this.#ui.giveBack(saidIn(kept.body.content ?? kept.body.edit?.content));
    }
    if (active) return this.#follow(active, new Answer());
    await this.#explainLast();
  }

  /** Why the last answer is missing or broken. */
  #explainLast() {
    const { id } = this.session;
    return explainLast(this.#api, this.#path, this.#conversation, () => id === this.session.id && !this.busy);
  }

  /** The page of history before what is shown. */
  async earlier() {
    const history = this.#history;
    try {
      const messages = await history?.earlier();
      if (messages && history === this.#history) this.#conversation.prepend(messages, history.more);
    } catch (error) {
      if (history !== this.#history) return;
      if (error.code === GONE) this.#vanished();
      else this.#ui.notify(`${texts.earlierNotRead} ${sentence(error)}`);
    }
  }

  /** Keep what is needed to come back; called when the page may go away as well. */
  remember() {
    const { id } = this.session;
    if (!this.#stream || id === null) return;
    const { turn, answer } = this.#stream;
    keepPending(id, { ...this.#pending, turn, ...(turn ? answer.snapshot() : {}) });
  }

  leave() {
    this.#recovery.drop("sync");
    this.#watch.close();
    this.remember();
    this.#stream?.leave();
    this.#repeat.forget();
    this.#stream = this.#view = this.#pending = null;
  }

  nudge() {
    this.#stream?.nudge();
    this.#watch.nudge();
  }

  /** False where the text was not taken. */
  send(text, images) {
    if (!this.#writable()) return false;
    const fresh = this.session.id === null;
    if (fresh) {
      const model = this.session.model ?? this.#ui.model();
      this.session = { ...this.session, id: newId("s"), title: title(text) || texts.images, model };
      if (Object.keys(this.params).length) keepSettings(this.session.id, this.params);
      this.#ui.show(this.session.id);
    }
    const message = { id: newId("m"), text, images };
    this.#conversation.addUser(message);
    const { id, title: name, model, system_prompt } = this.session;
    this.#begin({
      create: fresh ? { id, title: name, model, system_prompt } : null,
      body: { content: contentOf(text, images), message_id: message.id },
    });
    if (!fresh && !this.session.title) this.change({ title: title(text) || texts.images });
    return true;
  }

  /** Somebody wants to send while an answer runs. */
  early() {
    this.#ui.notify(this.#pending ? texts.answerRunning : sentence({ code: "turn_in_progress" }), "busy");
  }

  /** True when what is there may be changed; else says why not. */
  idle() {
    if (this.busy) this.early();
    return !this.busy && this.#writable();
  }

  /** False while an answer is running. */
  edit(messageId, text) {
    if (!this.idle()) return false;
    this.#conversation.rewrite(messageId, text);
    const content = contentOf(text, this.#conversation.imagesOf(messageId));
    this.#begin({ body: { edit: { message_id: messageId, content } } });
    return true;
  }

  regenerate() {
    if (this.busy || !this.#conversation.lastUser || !this.#writable()) return;
    this.#conversation.dropAfter(this.#conversation.lastUser.id);
    this.#begin({ body: { regenerate: true } });
  }

  retry() {
    this.#repeat.forget();
    this.regenerate();
  }

  /** The rest of an answer that was cut. */
  continued() {
    const { last } = this.#conversation;
    if (!this.busy && last?.text && this.#writable()) this.#begin({ body: { continue: true } }, Answer.after(last));
  }

  #begin({ body, ...send }, answer = new Answer()) {
    Object.assign(body, params(this.session.id));
    this.#run({ send: { key: newId("k"), at: Date.now(), ...send, body }, answer });
  }

  #resend(kept) {
    const { content, message_id, edit, continue: rest } = kept.body;
    if (rest) return this.#run({ send: kept, answer: Answer.after(this.#conversation.last ?? { text: "" }) });
    const id = message_id ?? edit?.message_id ?? this.#conversation.lastUser?.id;
    if (content !== undefined && !this.#conversation.has(id)) this.#conversation.addUser({ id, ...saidIn(content) });
    if (this.#conversation.lastUser?.id !== id && !edit) return; // the chat has gone on since
    this.#conversation.dropAfter(id);
    if (edit) this.#conversation.rewrite(id, saidIn(edit.content).text);
    this.#run({ send: kept, answer: new Answer() });
  }

  /** An answer behind an answer is the rest of it, and so is one that is there before its turn has ended. */
  #follow(turn, answer) {
    const { last } = this.#conversation;
    const rest = answer.last === 0 && last?.role === "assistant";
    this.#run({ turn, answer: rest ? Answer.after(last, last.turn !== turn) : answer });
  }

  async #run({ send = null, turn = null, answer }) {
    const view = this.#conversation.beginAnswer(answer, turn);
    const stream = new Stream({
      api: this.#api, session: this.session.id, send, turn, answer,
      on: {
        begun: () => {
          this.session = { ...this.session, turns: this.session.turns + 1 };
          this.remember();
          this.#ui.changed();
        },
        changed: () => view.changed(),
        link: (state) => {
          view.link(state);
          if (state) this.#ui.say(state.error ? sentence(state.error) : texts.reconnecting);
        },
      },
    });
    this.#stream = stream;
    this.#view = view;
    this.#pending = send;
    this.#watch.close();
    this.remember();
    this.#ui.changed();
    this.#ui.say(texts.answerBegun);
    const error = await stream.run();
    if (this.#stream !== stream) return;
    this.#stream = this.#pending = null;
    this.#ui.settled("busy");
    keepPending(this.session.id, null);
    if (error || !answer.ended) return this.#refused(error, send, stream.turn);
    view.turn = (this.#conversation.lastUser ?? {}).newestTurn = stream.turn; // the question's own is its first one
    view.end();
    this.#ui.say({ completed: texts.answerComplete, stopped: texts.stopped }[answer.state] ?? sentence(answer.error));
    if (answer.state !== "failed") this.#repeat.forget();
    else if (this.#repeat.plan(answer.error)) view.link({ kind: "waiting", error: answer.error, seconds: answer.error.retryAfter });
    this.#ui.changed();
    this.attend();
    this.#own = true;
    const versions = send?.body.edit || send?.body.regenerate || this.#conversation.lastUser?.unanswered?.length;
    if (answer.goesOn || versions) this.sync(); // the rest of an answer is one message with it
  }

  /** The send was not accepted (or was called off): nothing is lost, and the page shows what is true. */
  #refused(error, send, turn) {
    const { create, body } = send ?? {};
    const content = turn ? undefined : body?.content;
    if (error?.code === GONE && !create) {
      if (content !== undefined) this.#conversation.dropFrom(body.message_id);
      this.#vanished();
    } else {
      if (error) this.#ui.notify(sentence(error) + when(error));
      if (create) this.#ui.show(null, { model: create.model, system_prompt: create.system_prompt });
      else this.open(this.session.id);
    }
    if (content !== undefined) this.#ui.giveBack(saidIn(content));
  }

  async stop() {
    if (!this.#stream) return this.#callOff();
    try {
      await this.#stream.stop();
    } catch (error) {
      this.#ui.notify(`${texts.notStopped} ${sentence(error)}`);
    }
  }

  #callOff() {
    if (!this.#repeat.callOff()) return;
    this.#repeat.forget();
    this.#view.fail(this.#view.error);
    this.#ui.changed();
  }

  /** Do not wait for the end of a countdown. */
  now() {
    if (this.#stream) this.#stream.hurry();
    else this.#repeat.now();
  }

  /** Change title, model or system prompt, here and in the store. */
  async change(fields) {
    if (!this.#writable()) return this.#ui.changed();
    const { session } = this;
    const before = Object.fromEntries(Object.keys(fields).map((name) => [name, session[name]]));
    this.session = { ...session, ...fields };
    this.#ui.changed();
    if (session.id === null) return;
    if (this.#pending?.create) return void Object.assign(this.#pending.create, fields); // it goes with the first send
    this.#own = true;
    try {
      await this.#api.json("PATCH", this.#path, { body: fields });
    } catch (error) {
      if (session.id !== this.session.id) return;
      if (error.code === GONE) return this.#vanished();
      this.session = { ...this.session, ...before };
      this.#ui.notify(`${texts.notSaved} ${sentence(error)}`);
    }
    this.#ui.changed();
  }
}
