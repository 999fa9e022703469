// The arrows between the versions of a message: what an edit or a regenerate has cut off, and what stands there now.

export class Versions {
  #element;
  #ids = []; // oldest first; null is what stands there now
  #at = 0;

  constructor(element) {
    this.#element = element;
  }

  /** `versions` as the service has them, `created` of what stands there now (ms). */
  show(versions, created) {
    const all = versions.map(({ id, created: then }) => [then, id]);
    this.#ids = [...all, [created, null]].sort(([one], [other]) => one - other).map(([, id]) => id);
    this.#at = this.#ids.indexOf(null);
    const [earlier, place, later] = this.#element.children;
    this.#element.hidden = this.#ids.length < 2;
    place.textContent = `${this.#at + 1}/${this.#ids.length}`;
    earlier.disabled = this.#at === 0;
    later.disabled = this.#at === this.#ids.length - 1;
  }

  /** The id of the version beside what stands there now. */
  beside(step) {
    return this.#ids[this.#at + step];
  }
}
