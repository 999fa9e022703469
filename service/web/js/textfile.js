// A text file as it goes into a message. Loaded with the first one.

// One that is larger (bytes) would fill what most models read at once.
const LARGEST = 200_000;

/** As Markdown shows it: its name, and a fence that nothing in it closes. Throws where it is no text, or too large. */
export async function quoted(file) {
  if (file.size > LARGEST) throw new RangeError();
  const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer()).replace(/\r\n?/g, "\n");
  if (text.includes("\0")) throw new TypeError();
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
  const fence = "`".repeat(longest + 1);
  const ending = /\.(\w{1,10})$/.exec(file.name)?.[1] ?? "";
  return `${file.name}\n\n${fence}${ending}\n${text.replace(/\n$/, "")}\n${fence}`;
}
