// The list of sessions: newest first, by day, more on demand; rename, export and delete by a menu.

import { byId, fromTemplate } from "./dom.js";
import { day } from "./words.js";

const PAGE = 40;
// While another session is answering, the list is read this often (ms), to see it end.
const WATCH = 4000;

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

  /** on: rename(session), exported(session), remove(session), failed(error) */
  constructor(api, on) {
    this.#api = api;
    this.#on = on;
    this.#menu.addEventListener("click", (event) => {
      const what = event.target.closest("button")?.dataset.do;
      if (!what) return;
      this.#menu.hidePopover();
      const act = { rename: on.rename, export: on.exported, delete: on.remove }[what];
      act(this.#chosen);
    });
  }

  /** Read the list again, as far as it is shown. */
  async refresh() {
    const asked = ++this.#asked;
    clearTimeout(this.#watch);
    try {
      const limit = Math.min(200, Math.max(PAGE, this.#sessions.length));
      const page = await this.#api.json("GET", `v1/sessions?limit=${limit}`);
      if (asked !== this.#asked) return;
      this.#sessions = page.data;
      this.#next = page.next;
    } catch (error) {
      if (asked === this.#asked) this.#on.failed(error);
      return;
    }
    this.#draw();
    const others = this.#sessions.some((session) => session.active_turn && session.id !== this.#open?.id);
    if (others && !document.hidden) this.#watch = setTimeout(() => this.refresh(), WATCH);
  }

  async #more() {
    const page = await this.#api.json("GET", `v1/sessions?limit=${PAGE}&cursor=${encodeURIComponent(this.#next)}`);
    this.#sessions = [...this.#sessions, ...page.data];
    this.#next = page.next;
    this.#draw();
  }

  /** The open session, as the page knows it (the list may not have it yet). */
  current(session, busy) {
    this.#open = session.id === null ? null : { ...session, active_turn: busy ? "yes" : null };
    this.#draw();
  }

  #draw() {
    const open = this.#open;
    let sessions = this.#sessions.map((session) =>
      session.id === open?.id ? { ...session, title: open.title, active_turn: open.active_turn } : session,
    );
    if (open && !sessions.some((session) => session.id === open.id)) {
      sessions = [{ updated: Date.now(), ...open }, ...sessions];
    }
    const focused = this.#box.contains(document.activeElement) ? document.activeElement.closest("li")?.dataset.id : null;
    const parts = [];
    let list = null;
    let heading = "";
    for (const session of sessions) {
      const name = day(session.updated);
      if (name !== heading) {
        heading = name;
        const title = document.createElement("h2");
        title.textContent = name;
        list = document.createElement("ul");
        parts.push(title, list);
      }
      list.append(this.#item(session));
    }
    if (this.#next !== null) parts.push(this.#moreButton());
    if (!sessions.length) {
      const empty = document.createElement("p");
      empty.textContent = "Your chats will be listed here.";
      parts.push(empty);
    }
    this.#box.replaceChildren(...parts);
    if (focused) this.#box.querySelector(`li[data-id="${CSS.escape(focused)}"] a`)?.focus();
  }

  #item(session) {
    const item = fromTemplate("session-template");
    const [link, button] = item.children;
    const name = session.title || "Untitled chat";
    item.dataset.id = session.id;
    link.href = `#/${session.id}`;
    link.querySelector(".name").textContent = name;
    link.title = name;
    link.querySelector(".running").hidden = !session.active_turn;
    if (session.id === this.#open?.id) link.setAttribute("aria-current", "page");
    button.setAttribute("aria-label", `Options of ${name}`);
    button.addEventListener("click", () => this.#options(session, button));
    return item;
  }

  #options(session, button) {
    this.#chosen = session;
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
    button.textContent = "Older chats";
    button.addEventListener("click", () => this.#more().catch(this.#on.failed));
    return button;
  }

  forget(id) {
    this.#sessions = this.#sessions.filter((session) => session.id !== id);
    this.#draw();
  }
}
