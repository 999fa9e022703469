// Markdown that nobody vouches for, to DOM that can do nothing: marked parses, DOMPurify decides.
// HTML in the text is shown as text, pictures become links (a remote picture would tell its host what
// was said), links lead to http, https and mailto only. No styles, forms, ids or classes get through.

import "../vendor/dompurify/purify.min.js";
import { blocks as parse, parser } from "./parse.js";

const purify = globalThis.DOMPurify;

const TAGS = [
  "p", "br", "hr", "strong", "em", "del", "s", "u", "b", "i", "mark", "sub", "sup", "kbd", "code", "pre",
  "blockquote", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6", "a",
  "table", "thead", "tbody", "tr", "th", "td",
];
const ATTRIBUTES = ["href", "title", "align", "start", "class"];
// Tags without attributes that models use on purpose; everything else in angle brackets is text.
const PLAIN_TAG = /^<\/?(?:br|b|i|u|s|em|strong|mark|sub|sup|kbd)\s*\/?>$/i;
const LANGUAGE = /^language-[\w+#.-]{1,30}$/;

const escape = (text) =>
  text.replace(/[&<>"]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign]);

const marked = parser({
  html: ({ text, block }) => (PLAIN_TAG.test(text.trim()) ? text : block ? `<p>${escape(text)}</p>` : escape(text)),
  image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
  checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
});

purify.addHook("uponSanitizeAttribute", (node, data) => {
  if (data.attrName === "class") data.keepAttr = node.nodeName === "CODE" && LANGUAGE.test(data.attrValue);
});
purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName !== "A") return;
  node.setAttribute("rel", "noopener noreferrer");
  node.setAttribute("target", "_blank");
});

/** The top-level blocks of a text (its line ends being \n); joined, their `raw` is the text. */
export const blocks = (text) => parse(marked, text);

/** A block as DOM. */
export function render(block) {
  const node = document.createElement("div");
  node.className = "block";
  try {
    const html = marked.parser([block]);
    node.append(
      purify.sanitize(html, {
        ALLOWED_TAGS: TAGS,
        ALLOWED_ATTR: ATTRIBUTES,
        ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
        ADD_URI_SAFE_ATTR: ["align", "start"],
        ALLOW_DATA_ATTR: false,
        ALLOW_ARIA_ATTR: false,
        RETURN_DOM_FRAGMENT: true,
      }),
    );
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    node.textContent = block.raw;
  }
  node.querySelectorAll("pre").forEach(frame);
  node.querySelectorAll("table").forEach((table) => wrap(table, "wide", "Table"));
  return node;
}

/** Code gets its language and a button that copies it. */
function frame(pre) {
  const figure = document.getElementById("code-template").content.firstElementChild.cloneNode(true);
  const language = pre.firstElementChild?.className.replace("language-", "") ?? "";
  figure.querySelector("span").textContent = language || "text";
  figure.querySelector("button").setAttribute("aria-label", `Copy this ${language || "code"}`);
  pre.replaceWith(figure);
  figure.append(pre);
  pre.tabIndex = 0;
  pre.setAttribute("role", "group");
  pre.setAttribute("aria-label", language ? `Code, ${language}` : "Code");
}

/** Scrolls by itself where it is wider than the page, by keyboard too. */
function wrap(table, name, label) {
  const box = document.createElement("div");
  box.className = name;
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", label);
  table.replaceWith(box);
  box.append(table);
}
