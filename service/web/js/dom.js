// Small things that every view does with the document.

export const byId = (id) => document.getElementById(id);

/** A copy of a <template>'s element. */
export const fromTemplate = (id) => byId(id).content.firstElementChild.cloneNode(true);

/** Copy a text, also on plain-http pages, which have no clipboard API; the button says that it is done. */
export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "sr";
    (button.closest("dialog") ?? document.body).append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  button.dataset.done = "";
  setTimeout(() => delete button.dataset.done, 1500);
}

/**
 * Count seconds down in an element: `say(seconds)` is what it shows. Screen readers hear the first
 * sentence only. Returns a function that ends it.
 */
export function countDown(element, seconds, say) {
  const end = performance.now() + seconds * 1000;
  const show = () => {
    const text = say(Math.max(0, (end - performance.now()) / 1000));
    if (element.textContent !== text) element.textContent = text;
  };
  show();
  const timer = setInterval(show, 250);
  return () => clearInterval(timer);
}
