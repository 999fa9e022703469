// Images: made ready to be sent, and drawn. Loaded with the first one.

import { ask } from "./dialogs.js";
import { texts } from "./texts.js";

// What models take as it is, up to this size; anything else is drawn anew, no longer than so many pixels.
const KEPT = new Set(["image/png", "image/jpeg", "image/webp", "image/gif"]);
const KEPT_BYTES = 700_000;
const SIDE = 2048;
const QUALITY = 0.85;

/** A file as a data URL that models take. Throws where it is not an image that the browser can read. */
export async function prepared(file) {
  const bitmap = await createImageBitmap(file);
  const { width, height } = bitmap;
  const scale = Math.min(1, SIDE / Math.max(width, height));
  if (scale === 1 && KEPT.has(file.type) && file.size <= KEPT_BYTES) return dataUrl(file);
  const canvas = Object.assign(document.createElement("canvas"), {
    width: Math.max(1, Math.round(width * scale)),
    height: Math.max(1, Math.round(height * scale)),
  });
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const webp = await encoded(canvas, "image/webp");
  if (webp?.type === "image/webp") return dataUrl(webp);
  // A browser that writes no WebP: JPEG has no transparency.
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  return dataUrl(await encoded(canvas, "image/jpeg"));
}

const encoded = (canvas, type) => new Promise((resolve) => canvas.toBlob(resolve, type, QUALITY));

/** The page's policy admits images from data URLs, and from no other host. */
export function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

const looming = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      looming.unobserve(target);
      target.dispatchEvent(new Event("near"));
    }
  },
  { rootMargin: "600px" },
);

/** An image of a question, read when it comes near; `read(ref)` resolves to its data URL. One of another host is a link. */
export function picture({ ref, url = "" }, number, read) {
  if (!ref && !url.startsWith("data:image/")) {
    return Object.assign(document.createElement("a"), { href: url, textContent: url, rel: "noreferrer noopener", target: "_blank" });
  }
  const button = Object.assign(document.createElement("button"), { type: "button", className: "picture" });
  const image = Object.assign(document.createElement("img"), { alt: texts.image(number), decoding: "async" });
  button.append(image);
  button.addEventListener("click", () => image.src && enlarged(image.src, image.alt));
  if (!ref) {
    image.src = url;
    return button;
  }
  button.addEventListener("near", async () => {
    try {
      image.src = await read(ref);
    } catch {
      button.dataset.lost = ""; // its alternative text is shown
    }
  }, { once: true });
  looming.observe(button);
  return button;
}

function enlarged(src, alt) {
  const dialog = Object.assign(document.createElement("dialog"), { className: "large" });
  dialog.setAttribute("aria-label", alt);
  const form = Object.assign(document.createElement("form"), { method: "dialog" });
  const close = Object.assign(document.createElement("button"), { type: "submit", className: "primary", textContent: texts.close });
  form.append(Object.assign(document.createElement("img"), { src, alt }), close);
  dialog.append(form);
  document.body.append(dialog);
  ask(dialog, () => true).then(() => dialog.remove());
}
