// Work in slices, so that the page answers to a finger or a key in between: no task is longer than a
// slice and the one step that began in it.

const SLICE_MS = 16;

const jobs = []; // iterators; the one that came last goes first, since it is at the end of the page
let end = 0; // of the slice that this task may still use
let planned = false;
const { port1: here, port2: there } = new MessageChannel();
here.onmessage = () => {
  planned = false;
  if (!jobs.length) return;
  end = performance.now() + SLICE_MS;
  do step(jobs.at(-1));
  while (jobs.length && performance.now() < end);
  end = 0;
  plan();
};

function step(job) {
  let done = true;
  try {
    done = job.next().done;
  } finally {
    if (done) drop(job);
  }
}

function plan() {
  if (planned || !jobs.length) return;
  planned = true;
  there.postMessage(null);
}

/** Take the steps of a generator: some at once where this task has time for them, the others soon. */
export function inSlices(job) {
  if (!end) {
    end = performance.now() + SLICE_MS;
    setTimeout(() => (end = 0));
  }
  while (performance.now() < end) if (job.next().done) return;
  jobs.push(job);
  plan();
}

/** Take no more steps of it. */
export function drop(job) {
  const at = jobs.indexOf(job);
  if (at >= 0) jobs.splice(at, 1);
}
