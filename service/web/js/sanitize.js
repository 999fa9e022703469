// HTML that nobody vouches for, to DOM that can do nothing: DOMPurify decides. No styles, forms or ids
// get through, and of classes only the names of languages and what colours code.

import "../vendor/dompurify/purify.min.js";

const purify = globalThis.DOMPurify;
const CLASSES = { CODE: /^language-[\w+#.-]{1,30}$/, SPAN: /^hljs-[\w-]+(?: [\w-]+)*$/ };

purify.addHook("uponSanitizeAttribute", (node, data) => {
  if (data.attrName === "class") data.keepAttr = CLASSES[node.nodeName]?.test(data.attrValue) ?? false;
});
purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName !== "A") return;
  node.setAttribute("rel", "noopener noreferrer");
  node.setAttribute("target", "_blank");
});

/** What is left of the HTML, with these tags and attributes only; links lead to http, https and mailto. */
export const sanitize = (html, tags, attributes) =>
  purify.sanitize(html, {
    ALLOWED_TAGS: tags,
    ALLOWED_ATTR: attributes,
    ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
    ADD_URI_SAFE_ATTR: ["align", "start"],
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
