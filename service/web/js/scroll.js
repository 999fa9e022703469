// Where the conversation is scrolled to: it stays at the end while one reads the end, and nowhere
// else; a button leads back. Asks for earlier messages when their beginning comes near.

const NEAR_END = 60; // px: as good as the end
const NEAR_START = "1200px"; // some screens ahead, so that nobody waits

export class Scroll {
  #box;
  #jump;
  #content;
  #atEnd = true;
  #kept = 0; // scrollTop when it was last put to the end
  #lookForStart;

  constructor({ box, content, jump, earlier, onEarlier }) {
    this.#box = box;
    this.#jump = jump;
    this.#content = content;
    box.addEventListener("scroll", () => this.#note(), { passive: true });
    jump.addEventListener("click", () => this.toEnd());
    const sizes = new ResizeObserver(() => this.keep());
    sizes.observe(content);
    sizes.observe(box);
    const start = new IntersectionObserver(
      (entries) => entries.at(-1).isIntersecting && onEarlier(),
      { root: box, rootMargin: `${NEAR_START} 0px 0px 0px` },
    );
    this.#lookForStart = () => {
      start.unobserve(earlier); // observing anew tells where it is now, also if that has not changed
      start.observe(earlier);
    };
    this.#lookForStart();
  }

  #note() {
    const { scrollHeight, scrollTop, clientHeight } = this.#box;
    const near = scrollHeight - scrollTop - clientHeight < NEAR_END;
    // What has grown since has moved the end, not the reader: the browser tells of a scroll a frame later.
    const grown = this.#atEnd && !near && scrollTop >= this.#kept;
    this.#atEnd = near || grown;
    if (grown) this.keep();
    this.#jump.hidden = this.#atEnd || !this.#content.hasChildNodes();
  }

  /** After a change of the content: still at the end if it was. */
  keep() {
    if (this.#atEnd) {
      this.#box.scrollTop = this.#box.scrollHeight;
      this.#kept = this.#box.scrollTop;
    } else {
      this.#note();
    }
  }

  toEnd() {
    this.#atEnd = true;
    this.#jump.hidden = true;
    this.keep();
  }

  /** To the beginning, and no further with what grows. */
  toStart() {
    this.#atEnd = false;
    this.#jump.hidden = true;
    this.#box.scrollTop = 0;
  }

  /** Insert above what is seen without moving it; the browser's own anchoring does so at most times only. */
  above(insert) {
    const box = this.#box;
    box.style.overflowAnchor = "none";
    const { scrollHeight, scrollTop } = box;
    insert();
    box.scrollTop = scrollTop + box.scrollHeight - scrollHeight;
    requestAnimationFrame(() => {
      box.style.overflowAnchor = "";
      this.#lookForStart();
    });
  }
}
