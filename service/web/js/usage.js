// What the caller has used, and what is left of its budgets. Loaded when somebody asks.

import { ask } from "./dialogs.js";
import { locale, texts } from "./texts.js";
import { clock } from "./words.js";

const number = (value) => value.toLocaleString(locale);

/** Throws ApiError. */
export async function showUsage(api) {
  const { data, budgets, storage } = await api.json("GET", "v1/usage?days=30");
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "usage-title");
  const form = element("form", { method: "dialog" });
  form.append(element("h2", { id: "usage-title", textContent: texts.usage }));
  form.append(table([texts.budget, texts.used, texts.limit, texts.resets], Object.entries(budgets).map(budget)));
  const models = new Map();
  for (const { model, total_tokens, turns } of data) {
    const sum = models.get(model) ?? [0, 0];
    models.set(model, [sum[0] + total_tokens, sum[1] + turns]);
  }
  const rows = [...models].map(([model, [tokens, turns]]) => [model.split("/").pop(), number(tokens), number(turns)]);
  form.append(element("p", { className: "aside", textContent: texts.last30Days }));
  form.append(table([texts.model, texts.tokensUsed, texts.answers], rows.length ? rows : [[texts.noneUsed, "", ""]]));
  const { limit, used } = storage.sessions;
  if (limit) form.append(element("p", { className: "aside", textContent: texts.chatsKept(number(used), number(limit)) }));
  const buttons = element("div", { className: "buttons" });
  buttons.append(element("button", { type: "submit", className: "primary", textContent: texts.close }));
  form.append(buttons);
  dialog.append(form);
  document.body.append(dialog);
  ask(dialog, () => true).then(() => dialog.remove());
}

function budget([period, { limit, used, resets_at }]) {
  const resets = limit && resets_at ? clock(resets_at * 1000) : "";
  return [texts.periods[period], number(used), limit ? number(limit) : texts.noLimit, resets];
}

function table(head, rows) {
  const made = element("table", { className: "usage" });
  const line = (cells, name) => {
    const row = document.createElement("tr");
    row.append(...cells.map((text) => element(name, { textContent: text })));
    return row;
  };
  made.append(line(head, "th"), ...rows.map((cells) => line(cells, "td")));
  return made;
}

const element = (name, properties) => Object.assign(document.createElement(name), properties);
