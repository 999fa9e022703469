// Signing in at the issuer that the service names: OpenID Connect, authorization code with PKCE, by leaving the page and
// coming back. Tokens are in memory only and are refreshed before they end; what is kept on the way is in keep.js.

import { ApiError } from "./api.js";
import { forgetAll, keepAttempt, keepSignedIn, signedIn, takeAttempt } from "./keep.js";
import { texts } from "./texts.js";

// A token is refreshed when a quarter of its life is left, or a minute.
const MARGIN_MS = 60_000;
const LATEST_MS = 3_600_000; // timers beyond 24 days end at once
const RETRY_MS = 5000;
// What an issuer says where somebody has to be asked after all.
const HAS_TO_ASK = new Set(["login_required", "interaction_required", "consent_required", "account_selection_required"]);

const unreachable = () => new ApiError(0, "issuer_unreachable", texts.errors.issuer_unreachable);
const failed = (reason) => new ApiError(400, "", texts.signInFailed(reason));

/** The page's own address, which the issuer has to know. */
const callback = () => new URL("ui", document.baseURI).href;

const random = () => encoded(crypto.getRandomValues(new Uint8Array(32)));

function encoded(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** The claims of a token that has come from its issuer itself; its signature is the service's to check. */
function claimsOf(token) {
  const text = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
}

/** An answer of the issuer's as JSON, with its status. Throws ApiError where none came. */
async function ask(url, form) {
  let response;
  try {
    const body = form && new URLSearchParams(form);
    response = await fetch(url, { method: form ? "POST" : "GET", body, credentials: "omit", cache: "no-store" });
    if (response.status >= 500 || response.status === 429) throw unreachable();
    return { ok: response.ok, said: await response.json() };
  } catch {
    throw unreachable();
  }
}

/** What the issuer says of itself. Throws ApiError. */
async function discover({ issuer, origins }) {
  const { ok, said } = await ask(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
  if (!ok || said.issuer !== issuer) throw failed("issuer");
  const { authorization_endpoint: authorize, token_endpoint: token } = said;
  if (!URL.canParse(authorize) || new URL(authorize).protocol !== new URL(issuer).protocol) throw failed("authorization_endpoint");
  if (!URL.canParse(token) || !origins.includes(new URL(token).origin)) throw failed("token_endpoint");
  return said;
}

/** Leave for the issuer. `silent`: it is not to ask anything, only to say who is signed in there. Throws ApiError. */
export async function begin(oidc, silent) {
  if (!crypto.subtle) throw failed("https");
  const provider = await discover(oidc);
  const [state, nonce, verifier] = [random(), random(), random()];
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  keepAttempt({ state, nonce, verifier, silent, where: location.pathname + location.hash });
  const url = new URL(provider.authorization_endpoint);
  const wishes = {
    response_type: "code",
    client_id: oidc.client_id,
    redirect_uri: callback(),
    scope: oidc.scope,
    state,
    nonce,
    code_challenge: encoded(new Uint8Array(digest)),
    code_challenge_method: "S256",
    ...(oidc.audience ? { audience: oidc.audience } : {}),
    ...(silent ? { prompt: "none" } : {}),
    // What is behind the # is sent to no server, and so is in no log.
    ...(provider.response_modes_supported?.includes("fragment") ? { response_mode: "fragment" } : {}),
  };
  for (const [name, value] of Object.entries(wishes)) url.searchParams.set(name, value);
  location.assign(url);
}

/** The session that the issuer's answer `said` opens; null where it only said that it has to ask. Throws ApiError. */
export async function finish(oidc, said, ended) {
  const attempt = takeAttempt();
  if (!oidc || !attempt || attempt.state !== said.get("state")) throw failed("state");
  history.replaceState(null, "", attempt.where);
  const error = said.get("error");
  if (error && attempt.silent && HAS_TO_ASK.has(error)) return null;
  if (error) throw failed(/^[a-z_]{1,40}$/.test(error) ? error : "error");
  if (said.has("iss") && said.get("iss") !== oidc.issuer) throw failed("iss");
  const provider = await discover(oidc);
  const { ok, said: tokens } = await ask(provider.token_endpoint, {
    grant_type: "authorization_code",
    code: said.get("code"),
    redirect_uri: callback(),
    client_id: oidc.client_id,
    code_verifier: attempt.verifier,
  });
  if (!ok) throw failed("token");
  const session = new Session(oidc, provider, ended);
  session.take(tokens, attempt.nonce);
  if (signedIn() !== null && signedIn() !== session.subject) forgetAll(); // what somebody else has left here
  keepSignedIn(session.subject);
  return session;
}

class Session {
  #oidc;
  #provider;
  #ended;
  #tokens = {};
  #claims = {};
  #life = 0;
  #until = 0;
  #timer;
  #refreshing = null;

  /** `ended(code)`: the issuer gives no more tokens. */
  constructor(oidc, provider, ended) {
    this.#oidc = oidc;
    this.#provider = provider;
    this.#ended = ended;
  }

  get subject() {
    return this.#claims.sub;
  }

  get name() {
    return this.#claims.name ?? this.#claims.preferred_username ?? this.#claims.email ?? this.#claims.sub;
  }

  get token() {
    return this.#oidc.token === "id" ? this.#tokens.id_token : this.#tokens.access_token;
  }

  /** Tokens of the issuer's, if they are for us. Throws ApiError. */
  take(tokens, nonce) {
    let claims = this.#claims;
    try {
      if (tokens.id_token || nonce) claims = claimsOf(tokens.id_token);
    } catch {
      throw failed("id_token");
    }
    const { issuer, client_id } = this.#oidc;
    const right = claims.iss === issuer && [claims.aud].flat().includes(client_id) && claims.sub;
    if (!right || (nonce && claims.nonce !== nonce) || (this.subject && claims.sub !== this.subject)) throw failed("id_token");
    if (this.#oidc.token === "id" && !tokens.id_token) throw failed("id_token");
    this.#claims = claims;
    this.#tokens = { ...this.#tokens, ...tokens };
    if (!this.token) throw failed("token");
    // By its life and not by its end: clocks may differ.
    this.#life = 1000 * (this.#oidc.token === "id" ? claims.exp - claims.iat : (tokens.expires_in ?? 300));
    this.#until = Date.now() + this.#life;
    this.#wait();
  }

  /** The token, fresh. Throws ApiError where it has ended and the issuer cannot be reached. */
  async credential() {
    if (this.#due() <= Date.now()) await this.#refresh();
    return this.token ?? null;
  }

  #due() {
    return this.#until - Math.min(MARGIN_MS, this.#life / 4);
  }

  #wait(atLeast = 0) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(
      () => this.credential().catch(() => {}),
      Math.min(Math.max(this.#due() - Date.now(), atLeast), LATEST_MS),
    );
  }

  #refresh() {
    this.#refreshing ??= this.#renew().finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  async #renew() {
    const { refresh_token } = this.#tokens;
    const valid = Date.now() < this.#until;
    if (!refresh_token) {
      if (!valid) this.#end();
      else this.#wait(this.#until - Date.now());
      return;
    }
    const { client_id } = this.#oidc;
    try {
      const { ok, said } = await ask(this.#provider.token_endpoint, { grant_type: "refresh_token", refresh_token, client_id });
      if (!ok) return this.#end();
      this.take(said);
    } catch (error) {
      if (error.status !== 0) return this.#end();
      this.#wait(RETRY_MS);
      if (!valid) throw error;
    }
  }

  #end() {
    this.#tokens = {};
    this.#ended("sign_in_ended");
  }

  close() {
    clearTimeout(this.#timer);
    this.#tokens = {};
  }

  /** Give the issuer its tokens back; the address where one leaves it, if there is one. */
  farewell() {
    const { id_token, refresh_token } = this.#tokens;
    const { client_id, origins } = this.#oidc;
    const { revocation_endpoint: revoke, end_session_endpoint: leave } = this.#provider;
    if (revoke && refresh_token && origins.includes(new URL(revoke).origin)) {
      const body = new URLSearchParams({ token: refresh_token, token_type_hint: "refresh_token", client_id });
      fetch(revoke, { method: "POST", body, credentials: "omit", keepalive: true }).catch(() => {});
    }
    if (!leave || new URL(leave).protocol !== new URL(this.#oidc.issuer).protocol) return null;
    const url = new URL(leave);
    const said = { client_id, post_logout_redirect_uri: callback(), ...(id_token ? { id_token_hint: id_token } : {}) };
    for (const [name, value] of Object.entries(said)) url.searchParams.set(name, value);
    return url;
  }
}
