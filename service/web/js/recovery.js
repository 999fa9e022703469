// What could not be loaded is asked for again by itself, ever more rarely, and at once when the world has
// changed: back online, awake, in front, another key. No DOM in here.

const FIRST_MS = 1500;
const TOP_MS = 30_000;

export class Recovery {
  #jobs = new Map(); // name -> {action, tries, timer, running}
  #on;

  /** on: failed(name, error), succeeded(name) */
  constructor(on) {
    this.#on = on;
  }

  /** Load something now and, if that fails, until it succeeds; a newer load of the same name takes its place. */
  async load(name, action) {
    const tries = this.#jobs.get(name)?.tries ?? 0;
    this.drop(name);
    const job = { action, tries, timer: null, running: false };
    this.#jobs.set(name, job);
    await this.#run(name, job);
  }

  async #run(name, job) {
    clearTimeout(job.timer);
    job.running = true;
    try {
      await job.action();
    } catch (error) {
      job.running = false;
      if (this.#jobs.get(name) !== job) return;
      const pause = Math.min(TOP_MS, FIRST_MS * 2 ** job.tries++) * (0.75 + Math.random() / 2);
      const wait = Math.max(pause, (error.retryAfter ?? 0) * 1000);
      // Without a key it would only be refused again; whoever enters one nudges.
      if (error.status !== 401 && error.status !== 403) job.timer = setTimeout(() => this.#run(name, job), wait);
      this.#on.failed(name, error);
      return;
    }
    if (this.#jobs.get(name) !== job) return;
    this.#jobs.delete(name);
    this.#on.succeeded(name);
  }

  drop(name) {
    clearTimeout(this.#jobs.get(name)?.timer);
    this.#jobs.delete(name);
  }

  /** Try at once what is still missing. */
  nudge() {
    for (const [name, job] of this.#jobs) {
      if (job.running) continue;
      job.tries = 0;
      this.#run(name, job);
    }
  }
}
