// A failed answer that may work in a moment is asked for again by itself, a few times. No DOM in here.

// A wait up to this (s) is sat out, this often in a row.
const WITHIN_S = 60;
const TIMES = 3;

export class Repeat {
  #ask;
  #timer = null;
  #left = TIMES;

  /** `ask()` asks for the answer again. */
  constructor(ask) {
    this.#ask = ask;
  }

  get waiting() {
    return this.#timer !== null;
  }

  /** True when it will be asked for again, after the wait that the error names. */
  plan({ retryable, retryAfter }) {
    if (!retryable || retryAfter === null || retryAfter > WITHIN_S || this.#left === 0) {
      this.forget();
      return false;
    }
    this.#left -= 1;
    this.#timer = setTimeout(() => this.now(), retryAfter * 1000);
    return true;
  }

  /** Ask without waiting any longer. */
  now() {
    this.callOff();
    this.#ask();
  }

  /** Do not ask; true when it was going to. */
  callOff() {
    const { waiting } = this;
    clearTimeout(this.#timer);
    this.#timer = null;
    return waiting;
  }

  /** What comes next begins with all its tries. */
  forget() {
    this.callOff();
    this.#left = TIMES;
  }
}
