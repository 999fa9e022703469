// The list of sessions: pinned ones, then newest first, by day, more on demand; found by title and by what
// was asked in those that were open here; rename, pin, export and delete by a menu, several at once too.

import { byId, fromTemplate } from "./dom.js";
import { pin, pins } from "./keep.js";
import { texts } from "./texts.js";
import { day } from "./words.js";

const PAGE = 40;
// While another session is answering, the list is read this often (ms), to see it end.
const WATCH = 4000;
// A search looks through so many pages of the longest kind: 1,000 chats.
const LONGEST_PAGE = 200;
const SEARCHED_PAGES = 5;

/** Letters as they are looked for: without case and accents. */
const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

export class Sidebar {
  #api;
  #on;
  #box = byId("sessions");
  #menu = byId("session-menu");
  #sessions = [];
  #next = null;
  #open = null;
  #chosen = null;
  #watch = null;
  #asked = 0;
  #forgotten = new Set(); // since the last page of the list was asked for
  #reading = Promise.resolve(); // the list is read by one request at a time: each goes on where the last one ended
  #search = byId("search");
  #texts = new Map(); // id -> what was asked in it, of the chats that were open here
  #pinned = []; // sessions that the pages read so far do not have
  #selected = null; // ids, while several are chosen

  /** on: rename(session), copied(session), exported(session, ending), remove(session), removeAll(ids) -> done, failed(error), watch() */
  constructor(api, on) {
    this.#api = api;
    this.#on = on;
    this.#menu.addEventListener("click", (event) => {
      const what = event.target.closest("button")?.dataset.do;
      if (!what) return;
      this.#menu.hidePopover();
      const session = this.#chosen;
      const act = {
        rename: () => on.rename(session),
        pin: () => this.#pin(session),
        copy: () => on.copied(session),
        markdown: () => on.exported(session, "md"),
        export: () => on.exported(session, "json"),
        select: () => this.#select(new Set([session.id])),
        delete: () => on.remove(session),
      };
      act[what]();
    });
    this.#search.addEventListener("input", () => {
      this.#draw();
      if (this.#search.value.trim()) this.#readAll().catch(on.failed);
    });
    this.#search.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.#search.value) return;
      event.stopPropagation();
      this.#search.value = "";
      this.#draw();
    });
    byId("selection").addEventListener("click", (event) => this.#selection(event.target.closest("button")?.dataset.do));
  }

  /** What was asked in a session, to be found by it. */
  remember(id, asked) {
    this.#texts.set(id, plain(asked.join("\n").slice(0, 100_000)));
  }

  /** Read the list again, as far as it is shown. Throws ApiError. */
  async refresh() {
    const asked = ++this.#asked;
    clearTimeout(this.#watch);
    await this.#inTurn(async () => {
      if (asked !== this.#asked) return;
      const page = await this.#page(Math.min(LONGEST_PAGE, Math.max(PAGE, this.#sessions.length)));
      this.#sessions = page.data;
      this.#next = page.next;
      this.#draw();
    });
    if (asked !== this.#asked) return;
    await this.#readAll();
    await this.#readPinned();
    const others = this.#sessions.some((session) => session.active_turn && session.id !== this.#open?.id);
    if (others && !document.hidden) this.#watch = setTimeout(() => this.#on.watch(), WATCH);
  }

  #inTurn(read) {
    const turn = this.#reading.then(read);
    this.#reading = turn.catch(() => {});
    return turn;
  }

  #more(limit = PAGE) {
    return this.#inTurn(async () => {
      if (this.#next === null) return;
      const page = await this.#page(limit, `&cursor=${encodeURIComponent(this.#next)}`);
      this.#sessions = [...this.#sessions, ...page.data];
      this.#next = page.next;
      this.#draw();
    });
  }

  /** A page of the list; what was forgotten while it was read is not in it. */
  async #page(limit, from = "") {
    const forgotten = (this.#forgotten = new Set());
    const page = await this.#api.json("GET", `v1/sessions?limit=${limit}${from}`);
    return { ...page, data: page.data.filter(({ id }) => !forgotten.has(id)) };
  }

  /** While something is looked for, more of the list is read than is shown. */
  async #readAll() {
    for (let pages = 0; pages < SEARCHED_PAGES && this.#next !== null && this.#search.value; pages++) {
      await this.#more(LONGEST_PAGE);
    }
  }

  /** Pinned chats are shown however old they are; those that are gone are no longer pinned. */
  async #readPinned() {
    const known = new Set([...this.#sessions, ...this.#pinned].map(({ id }) => id));
    for (const id of pins().filter((id) => !known.has(id))) {
      try {
        this.#pinned.push(await this.#api.json("GET", `v1/sessions/${encodeURIComponent(id)}`));
      } catch (error) {
        if (error.code === "session_not_found") pin(id, false);
      }
    }
    this.#draw();
  }

  #pin(session) {
    pin(session.id, !pins().includes(session.id));
    this.#draw();
  }

  /** The open session, as the page knows it (the list may not have it yet); before it is loaded the list knows more. */
  current(session, busy, loaded = true) {
    this.#open = session.id === null ? null : { ...session, loaded, active_turn: busy ? "yes" : null };
    this.#draw();
  }

  /** The sessions to show, in order, each with its heading. */
  #found() {
    const open = this.#open;
    const known = new Set(this.#sessions.map(({ id }) => id));
    let sessions = [...this.#sessions, ...this.#pinned.filter(({ id }) => !known.has(id))].map((session) => {
      if (session.id !== open?.id) return session;
      return { ...session, title: open.loaded ? open.title : session.title, active_turn: open.active_turn };
    });
    if (open?.loaded && !sessions.some(({ id }) => id === open.id)) sessions = [{ updated: Date.now(), ...open }, ...sessions];
    const wanted = plain(this.#search.value.trim());
    const on = pins();
    const rank = (id) => on.indexOf(id);
    return sessions
      .filter(({ id, title }) => plain(title ?? "").includes(wanted) || this.#texts.get(id)?.includes(wanted))
      .filter(({ id }) => known.has(id) || id === open?.id || on.includes(id))
      .sort((a, b) => rank(b.id) - rank(a.id))
      .map((session) => [on.includes(session.id) ? texts.pinned : day(session.updated), session]);
  }

  #draw() {
    const found = this.#found();
    const focused = this.#box.contains(document.activeElement) ? document.activeElement.closest("li")?.dataset.id : null;
    const parts = [];
    let list = null;
    let heading = "";
    for (const [name, session] of found) {
      if (name !== heading) {
        heading = name;
        const title = document.createElement("h2");
        title.textContent = name;
        list = document.createElement("ul");
        parts.push(title, list);
      }
      list.append(this.#item(session));
    }
    if (this.#next !== null && !this.#search.value) parts.push(this.#moreButton());
    if (!found.length) {
      const empty = document.createElement("p");
      empty.textContent = this.#search.value ? texts.noneFound : texts.noneYet;
      parts.push(empty);
    }
    this.#box.replaceChildren(...parts);
    this.#drawSelection();
    if (focused) this.#box.querySelector(`li[data-id="${CSS.escape(focused)}"] a`)?.focus();
  }

  // Several at once

  #select(ids) {
    this.#selected = ids;
    this.#draw();
  }

  #drawSelection() {
    const bar = byId("selection");
    bar.hidden = this.#selected === null;
    const remove = bar.querySelector("[data-do=delete]");
    remove.textContent = texts.deleteSome(this.#selected?.size ?? 0);
    remove.disabled = !this.#selected?.size;
  }

  async #selection(what) {
    if (what === "all") this.#select(new Set(this.#found().map(([, { id }]) => id)));
    else if (what === "cancel") this.#select(null);
    else if (what === "delete" && (await this.#on.removeAll([...this.#selected]))) this.#select(null);
  }

  #item(session) {
    const item = fromTemplate("session-template");
    const [box, link, button] = item.children;
    const name = session.title || texts.untitled;
    item.dataset.id = session.id;
    link.href = `#/${session.id}`;
    link.querySelector(".name").textContent = name;
    link.title = name;
    link.querySelector(".running").hidden = !session.active_turn;
    if (session.id === this.#open?.id) link.setAttribute("aria-current", "page");
    box.hidden = this.#selected === null;
    box.checked = this.#selected?.has(session.id) ?? false;
    box.setAttribute("aria-label", texts.choose(name));
    box.addEventListener("change", () => {
      this.#selected[box.checked ? "add" : "delete"](session.id);
      this.#drawSelection();
    });
    button.hidden = this.#selected !== null;
    button.setAttribute("aria-label", texts.optionsOf(name));
    button.addEventListener("click", () => this.#options(session, button));
    return item;
  }

  #options(session, button) {
    this.#chosen = session;
    this.#menu.querySelector("[data-do=pin]").textContent = pins().includes(session.id) ? texts.unpin : texts.pin;
    const place = button.getBoundingClientRect();
    this.#menu.showPopover();
    const height = this.#menu.offsetHeight;
    this.#menu.style.left = `${Math.min(place.left, innerWidth - this.#menu.offsetWidth - 8)}px`;
    this.#menu.style.top = `${place.bottom + height + 8 > innerHeight ? place.top - height - 4 : place.bottom + 4}px`;
    this.#menu.querySelector("button").focus();
  }

  #moreButton() {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = texts.olderChats;
    button.addEventListener("click", () => this.#more().catch(this.#on.failed));
    return button;
  }

  forget(id) {
    this.#forgotten.add(id);
    this.#sessions = this.#sessions.filter((session) => session.id !== id);
    this.#pinned = this.#pinned.filter((session) => session.id !== id);
    this.#texts.delete(id);
    pin(id, false);
    this.#draw();
  }
}
