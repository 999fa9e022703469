// node play.mjs <script> <scenario> <parameters as JSON>: prints what the scenario returns, as JSON.
// With `versions`, the scenario is played for all of them at once, each in a chat of its own, and
// `{version}` stands for the version in every parameter.
// Whatever a library logs goes to stderr, so that stdout is the result alone.
console.log = console.info = console.debug = console.error;

// A library may wait on a timer that does not keep node alive (eventsource does); this one does.
setInterval(() => {}, 1000);

const [script, scenario, text] = process.argv.slice(2);
const module = await import(`./${script}.mjs`);
const play = module[scenario];
const { versions, ...parameters } = JSON.parse(text);
const result = versions ? await playAll(versions, parameters) : await play(parameters);
process.stdout.write(JSON.stringify(result ?? null), () => process.exit(0));

async function playAll(versions, parameters) {
  await module.prepare?.(versions);
  const one = async (version) => {
    const own = JSON.parse(JSON.stringify(parameters).replaceAll("{version}", version));
    return [version, await play({ ...own, version, id: version })];
  };
  return Object.fromEntries(await Promise.all(versions.map(one)));
}
