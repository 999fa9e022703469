// What the scripts of all JavaScript clients share: ask the questions, tell what came of each.
// A script says how its library streams, calls a tool and gives an object; `asked` has the service's address,
// the model and the script's options, and takes what is shown.

export const PARAMETERS = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
};
export const SCHEMA = {
  type: "object",
  properties: { city: { type: "string" }, degrees: { type: "integer" } },
  required: ["city", "degrees"],
  additionalProperties: false,
};
export const TOOL = { type: "function", function: { name: "weather", parameters: PARAMETERS } };

export function asking({ stream, tools, structured }) {
  const ways = { stream, tools, structured, cut: stream, refused: stream };
  return async ({ url, model, options, questions }) => {
    const told = {};
    for (const [name, question] of Object.entries(questions)) told[name] = await one(ways[name], question);
    return told;

    async function one(way, question) {
      const [seen, called, found] = [[], [], {}];
      const show = (piece) => piece && seen.push(piece);
      const weather = ({ city }) => {
        called.push(city);
        return `Rain in ${city}.`;
      };
      try {
        const answer = await way({ url, v1: `${url}/v1`, model, show, weather, ...options }, question);
        if (answer !== undefined) found.answer = answer;
      } catch (error) {
        const { name = "", status, statusCode, message = error } = error;
        // Bundlers rename the classes of the AI SDK, which have names for that.
        const kind = name.startsWith("AI_") ? name : error.constructor.name;
        found.error = { kind, status: status ?? statusCode ?? null, message };
      }
      if (seen.length) found.text = seen.join("");
      if (called.length) found.called = called;
      return found;
    }
  };
}

export const said = (content) => [{ role: "user", content }];
