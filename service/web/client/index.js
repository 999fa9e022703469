export { followTurn, TurnError } from "./follow-turn.js";
export { resumableFetch } from "./resumable-fetch.js";
