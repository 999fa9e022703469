// What a question is made of: a text and images, each {url} or {ref} of one that the session has. No DOM.

/** `content` of a send: a text, or with images a list of parts. */
export function contentOf(text, images) {
  if (!images.length) return text;
  const parts = images.map(({ ref, url }) => (ref ? { type: "image", ref } : { type: "image_url", image_url: { url } }));
  return text.trim() ? [{ type: "text", text }, ...parts] : parts;
}

/** {text, images} of the `content` of a send. */
export function saidIn(content = "") {
  if (typeof content === "string") return { text: content, images: [] };
  const text = content.filter(({ type }) => type === "text").map((part) => part.text).join("");
  return { text, images: content.filter(({ type }) => type !== "text").map(({ ref, image_url }) => (ref ? { ref } : image_url)) };
}

/** The images of a message of the history. */
export const imagesOf = ({ parts = [] }) => parts.filter(({ type }) => type === "image").map(({ ref, url }) => (ref ? { ref } : { url }));
