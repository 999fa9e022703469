// The page: makes the parts, ties them together and follows the address (#/<session id>).

import { Api } from "./api.js";
import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { askDelete, askKey, askSystemPrompt, askTitle, showShortcuts } from "./dialogs.js";
import { byId } from "./dom.js";
import { chooseModel, Drawer, models, prompts, themeButton } from "./frame.js";
import { apiKey, keepApiKey } from "./keep.js";
import { notify, say } from "./notice.js";
import { Sidebar } from "./sidebar.js";
import { sentence } from "./words.js";

const TICK_MS = 5000;
const select = byId("model");

// The key: asked for once however many calls need it, and only when one does.

let asking = null;
let declined = false;

async function enterKey(wrong) {
  const entered = await askKey(wrong);
  declined = entered === null;
  if (entered) keepApiKey(entered.key, entered.keep);
  return !declined;
}

/** True when there is another key than the one that was refused. Who said "not now" is not asked by mere reads. */
async function askForKey(refused, method) {
  if (apiKey() !== refused) return true;
  byId("key").hidden = false;
  if (declined && method === "GET") return false;
  asking ??= enterKey(Boolean(refused)).finally(() => (asking = null));
  return asking;
}

// The parts

const api = new Api({ apiKey, askForKey });
const drawer = new Drawer();
const conversation = new Conversation({
  earlier: () => chat.earlier(),
  edit: (id, text) => chat.edit(id, text),
  regenerate: () => chat.regenerate(),
  again: () => chat.retry(),
  now: () => chat.now(),
  cancel: () => chat.stop(),
});
const composer = new Composer({
  send: (text) => {
    notify(null);
    chat.send(text);
  },
  stop: () => chat.stop(),
  editLast: () => conversation.lastUser && conversation.edit(conversation.lastUser.id),
});
const sidebar = new Sidebar(api, {
  rename: rename,
  exported: exportSession,
  remove: remove,
  failed: (error) => notify(`The list of chats could not be read. ${sentence(error)}`),
});
const chat = new Chat({
  api,
  conversation,
  ui: { changed, draft: (text) => composer.draft(text), notify, say, show },
});

/** Something about the open session is different now. */
let was = "";
function changed() {
  const { session, busy } = chat;
  const title = session.title || (session.id === null ? "New chat" : "Untitled chat");
  byId("title").textContent = title;
  document.title = session.id === null ? "Chat" : `${title} · Chat`;
  chooseModel(select, session.model);
  composer.busy(busy);
  sidebar.current(session, busy);
  const now = JSON.stringify([session.id, session.title, busy]);
  if (now !== was) sidebar.refresh();
  was = now;
}

// Where one is

/** The session that the address names; ids have no characters that need escaping. */
const addressed = () => /^#\/([\w.:-]+)$/.exec(location.hash)?.[1] ?? null;

/** Make a session (null: a new one) the open one, in the address as well. */
function show(id, defaults) {
  const hash = id === null ? "" : `#/${id}`;
  if (location.hash !== hash) history.pushState(null, "", hash || location.pathname + location.search);
  if (id === null) chat.open(null, defaults);
}

function follow() {
  drawer.chosen();
  if (addressed() !== chat.session.id) chat.open(addressed());
  composer.invite();
}

function newChat() {
  notify(null);
  show(null);
  drawer.chosen();
  composer.invite();
}

// What the list of sessions offers

async function rename(session) {
  const title = await askTitle(session.title);
  if (!title) return;
  if (session.id === chat.session.id) return chat.change({ title });
  await attempt(() => api.json("PATCH", path(session), { body: { title } }), "The chat was not renamed.");
}

async function exportSession(session) {
  await attempt(async () => {
    const response = await api.fetch("GET", `${path(session)}/export`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = `${(session.title || session.id).replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60)}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }, "The chat was not exported.");
}

async function remove(session) {
  if (!(await askDelete(session.title || "Untitled chat"))) return;
  const open = session.id === chat.session.id;
  if (open) chat.leave();
  await attempt(() => api.json("DELETE", path(session)), "The chat was not deleted.");
  if (open) newChat();
  sidebar.forget(session.id);
}

const path = (session) => `v1/sessions/${encodeURIComponent(session.id)}`;

async function attempt(action, complaint) {
  try {
    await action();
    sidebar.refresh();
  } catch (error) {
    if (error.code !== "session_not_found") notify(`${complaint} ${sentence(error)}`);
  }
}

// What one does with the page

select.addEventListener("change", () => chat.change({ model: select.value }));
byId("new").addEventListener("click", newChat);
byId("shortcuts").addEventListener("click", showShortcuts);
byId("key").addEventListener("click", async () => {
  if (!(await enterKey(false))) return;
  notify(null);
  sidebar.refresh();
});
byId("settings").addEventListener("click", async () => {
  const prompt = await askSystemPrompt(chat.session.system_prompt);
  if (prompt !== null) chat.change({ system_prompt: prompt || null });
});
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  composer.focus();
});

addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open], :popover-open") || event.isComposing) return;
  const writing = event.target.closest("input, textarea, select");
  if (event.key === "Escape") {
    if (drawer.covers) drawer.set(false);
    else if (chat.busy) chat.stop();
  } else if (event.altKey && event.code === "KeyN") {
    event.preventDefault();
    newChat();
  } else if (event.key === "/" && !writing) {
    event.preventDefault();
    composer.focus();
  } else if (event.key === "?" && !writing) {
    showShortcuts();
  }
});

// The world around the page

addEventListener("popstate", follow);
addEventListener("hashchange", follow);
addEventListener("pagehide", () => chat.remember());
addEventListener("online", () => chat.nudge());
// Timers stand still while a machine sleeps: a gap between two of them means that it has woken up.
let tick = Date.now();
setInterval(() => {
  if (Date.now() - tick > 4 * TICK_MS) chat.nudge();
  tick = Date.now();
}, TICK_MS);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return chat.remember();
  chat.nudge();
  sidebar.refresh();
});

async function start() {
  themeButton();
  prompts((text) => {
    composer.draft(text);
    composer.focus();
  });
  chat.open(addressed());
  composer.invite();
  const [list, health] = await Promise.allSettled([api.json("GET", "v1/models"), api.json("GET", "health")]);
  if (list.status === "fulfilled") models(select, list.value.data);
  else notify(`The models could not be read. ${sentence(list.reason)}`);
  byId("demo").hidden = health.value?.upstream !== "demo";
  byId("key").hidden &&= apiKey() === null;
  changed();
}

start();
