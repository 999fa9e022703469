// The page: makes the parts, ties them together and follows the address (#/<session id>).

import { Access } from "./access.js";
import { Api } from "./api.js";
import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { askDelete, askSettings, askTitle, showShortcuts } from "./dialogs.js";
import { byId } from "./dom.js";
import { keepFocus, watchFocus } from "./focus.js";
import { chooseModel, chosen, Drawer, languageButton, models, prompts, themeButton } from "./frame.js";
import { chosenModel, keepModel, keepSettings, settings } from "./keep.js";
import { keys } from "./keys.js";
import { notify, say, settled } from "./notice.js";
import { Recovery } from "./recovery.js";
import { Sidebar } from "./sidebar.js";
import { hush, offerSpeech } from "./speech.js";
import { language, speak, texts } from "./texts.js";
import { sentence } from "./words.js";

const TICK_MS = 5000;
const select = byId("model");

// The parts

const access = new Access({
  entered: () => {
    settled();
    settled("access");
    setTimeout(() => recovery.nudge()); // after the call that asked, all that had to wait for a key
  },
  ended: (text) => notify(text, "access", { label: texts.signIn, act: () => access.signIn() }),
  leaving: () => chat.open(null),
});
const api = new Api(access);
const drawer = new Drawer();
const COMPLAINTS = { list: texts.listNotRead, models: texts.modelsNotRead };
const recovery = new Recovery({
  failed: (name, error) => COMPLAINTS[name] && notify(`${COMPLAINTS[name]} ${sentence(error)}`, name),
  succeeded: settled,
});
const conversation = new Conversation({
  earlier: () => chat.earlier(),
  edit: (id, text) => chat.edit(id, text),
  regenerate: () => chat.regenerate(),
  branch: (view) => branch(chat.session, view),
  again: () => chat.retry(),
  continued: () => chat.continued(),
  now: () => chat.now(),
  cancel: () => chat.stop(),
  version: chooseVersion,
  picture: async (ref) => {
    const { dataUrl } = await import("./pictures.js");
    const response = await api.fetch("GET", `${path(chat.session)}/images/${ref}`);
    return dataUrl(await response.blob());
  },
  reload: () => chat.load(),
  fresh: () => {
    const written = composer.take();
    newChat();
    composer.giveBack(written);
  },
});
const composer = new Composer({
  send: (text, images) => {
    settled();
    return chat.send(text, images);
  },
  failed: (text) => notify(text),
  choose: chooseForChat,
  attached: () => composer.offer(select),
  early: () => chat.early(),
  stop: () => chat.stop(),
  editLast: () => conversation.lastUser && conversation.edit(conversation.lastUser.id),
});
const sidebar = new Sidebar(api, {
  rename: rename,
  copied: branch,
  exported: exportSession,
  remove: remove,
  removeAll: removeAll,
  failed: (error) => notify(`${COMPLAINTS.list} ${sentence(error)}`),
  watch: () => listSessions(),
});
const listSessions = () => recovery.load("list", () => sidebar.refresh());
const chat = new Chat({
  api,
  conversation,
  recovery,
  ui: {
    changed,
    model: () => chosen(select),
    giveBack: (said) => composer.giveBack(said),
    notify,
    settled,
    say,
    show,
    gone: (id) => sidebar.forget(id),
  },
});

/** Something about the open session is different now. */
let was = "";
function changed() {
  const { session, busy, state } = chat;
  const loaded = state === "ready" || state === "gone";
  const title = session.title || (session.id === null ? texts.newChat : loaded ? texts.untitled : texts.chat);
  byId("title").textContent = title;
  document.title = session.id === null ? texts.app : texts.titleOfPage(title);
  const writable = state === "ready";
  chooseModel(select, session.model, session.id === null ? chosenModel() : null);
  select.disabled = byId("settings").disabled = !writable;
  composer.offer(select);
  composer.open(session.id);
  composer.busy(busy);
  if (loaded && session.id !== null) sidebar.remember(session.id, conversation.questions);
  sidebar.current(state === "gone" ? { id: null } : session, busy, loaded);
  const now = JSON.stringify([session.id, session.title, busy]);
  if (now !== was) listSessions();
  if (now !== was && session.id !== null) tabs.postMessage(null);
  was = now;
  keepFocus();
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
  hush();
  if (addressed() !== chat.session.id) chat.open(addressed());
  composer.invite();
}

function newChat() {
  settled();
  hush();
  show(null);
  drawer.chosen();
  composer.invite();
}

// What the list of sessions offers

async function rename(session) {
  const title = await askTitle(session.title);
  if (!title) return;
  if (session.id === chat.session.id) return chat.change({ title });
  await attempt(() => api.json("PATCH", path(session), { body: { title } }), texts.notRenamed);
}

async function exportSession(session, ending) {
  await attempt(async () => {
    const { fileName, markdown, save } = await import("./export.js");
    const response = await api.fetch("GET", `${path(session)}/export`);
    const blob = ending === "md" ? new Blob([markdown(await response.json())], { type: "text/markdown" }) : await response.blob();
    save(blob, fileName(session, ending));
  }, texts.notExported);
}

/** A copy of a chat, or of it up to an answer, becomes the open one. */
async function branch(session, view) {
  await attempt(async () => {
    const { copyOf } = await import("./branch.js");
    location.hash = `#/${(await copyOf(api, session, view)).id}`;
  }, texts.notCopied);
}

async function importSession([file]) {
  await attempt(async () => {
    const { imported } = await import("./import.js");
    const offered = [...select.options].map(({ value }) => value);
    location.hash = `#/${await imported(api, file, offered)}`;
  }, texts.notImported(file.name));
}

/** Put an earlier version of a message into its place, with what followed it. */
async function chooseVersion(version) {
  if (!chat.idle()) return;
  const action = () => api.json("PATCH", path(chat.session), { body: { version } });
  await attempt(action, texts.versionNotBack);
  await chat.sync();
}

async function remove(session) {
  if (!(await askDelete(session.title || texts.untitled))) return;
  await removeOne(session.id, texts.notDeleted);
}

async function removeOne(id, complaint) {
  const open = id === chat.session.id;
  if (open) chat.attend(false); // what this page does it need not be told
  const gone = await attempt(() => api.json("DELETE", path({ id })), complaint);
  if (!gone) return chat.attend();
  if (open && id === chat.session.id) {
    chat.leave();
    newChat();
  }
  sidebar.forget(id);
}

/** Delete several, a few at a time; those that were not stay in the list. */
async function removeAll(ids) {
  if (!(await askDelete(null, ids.length))) return false;
  const left = [...ids];
  const next = async () => {
    for (let id = left.pop(); id; id = left.pop()) await removeOne(id, texts.notAllDeleted);
  };
  await Promise.all([next(), next(), next()]);
  return true;
}

const path = (session) => `v1/sessions/${encodeURIComponent(session.id)}`;

// Other tabs of this browser list their chats anew; other devices do when they are looked at.
const tabs = new BroadcastChannel("chat.list");
tabs.onmessage = () => listSessions();

/** True when it worked, or there was nothing left to do it to. */
async function attempt(action, complaint) {
  try {
    await action();
    settled();
  } catch (error) {
    if (error.code !== "session_not_found") {
      notify(`${complaint} ${sentence(error)}`);
      return false;
    }
  }
  listSessions();
  tabs.postMessage(null);
  return true;
}

// What one does with the page

function chooseForChat(model) {
  keepModel(model);
  chat.change({ model });
}

select.addEventListener("change", () => chooseForChat(select.value));
byId("new").addEventListener("click", newChat);
byId("shortcuts").addEventListener("click", showShortcuts);
byId("key").addEventListener("click", async () => {
  if (await access.enter()) listSessions();
});
byId("settings").addEventListener("click", async () => {
  const { id, system_prompt } = chat.session;
  const chosen = await askSettings({ ...(id === null ? chat.params : settings(id)), system_prompt });
  if (chosen === null || id !== chat.session.id) return;
  const { keep, ...set } = chosen;
  const { system_prompt: prompt, ...params } = set;
  if (keep) keepSettings(null, set);
  if (id === null) chat.params = params;
  else keepSettings(id, params);
  if (prompt !== system_prompt) chat.change({ system_prompt: prompt });
});
byId("usage").addEventListener("click", async () => {
  const { showUsage } = await import("./usage.js");
  await attempt(() => showUsage(api), texts.usageNotRead);
});
byId("sign-out").addEventListener("click", () => access.signOut());
byId("import").addEventListener("click", () => byId("import-file").click());
byId("import-file").addEventListener("change", async ({ target }) => {
  await importSession(target.files);
  target.value = "";
});
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  composer.focus();
});

keys({
  leave() {
    if (drawer.covers) drawer.set(false);
    else if (chat.busy) chat.stop();
    else hush();
  },
  fresh: newChat,
  field: () => composer.focus(),
  help: showShortcuts,
  list: () => drawer.set(!drawer.open),
  search() {
    drawer.set(true);
    byId("search").select();
  },
  copy: () => conversation.copyLast() && say(texts.copied),
});

// The world around the page

addEventListener("popstate", follow);
addEventListener("hashchange", follow);
addEventListener("pagehide", () => chat.remember());
addEventListener("online", wake);
// Timers stand still while a machine sleeps: a gap between two of them means that it has woken up.
let tick = Date.now();
setInterval(() => {
  if (Date.now() - tick > 4 * TICK_MS) wake();
  tick = Date.now();
}, TICK_MS);
document.addEventListener("visibilitychange", () => {
  chat.attend();
  if (document.hidden) return chat.remember();
  wake();
  listSessions();
});

/** The line may be back: what waits for it need not wait any longer. */
function wake() {
  chat.nudge();
  recovery.nudge();
}

async function loadModels() {
  const [list, health] = await Promise.all([api.json("GET", "v1/models"), api.json("GET", "health").catch(() => null)]);
  models(select, list.data);
  byId("demo").hidden = health?.upstream !== "demo";
  byId("key").hidden &&= !access.known;
  byId("sign-out").hidden = !access.known;
  changed();
}

async function start() {
  document.documentElement.lang = language;
  speak(document);
  watchFocus();
  themeButton();
  languageButton();
  prompts((text) => {
    composer.draft(text);
    composer.focus();
  });
  offerSpeech();
  await access.returned();
  chat.open(addressed());
  composer.invite();
  recovery.load("models", loadModels);
}

start();
