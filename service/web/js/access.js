// Who one is to the service: the key, or the token of a sign-in, that calls carry; and how one is asked for it, once
// however many calls need it. Keys are kept by keep.js; signing in at an issuer is oidc.js, which is loaded where the
// service offers it.

import { askKey } from "./dialogs.js";
import { byId } from "./dom.js";
import { apiKey, forgetAll, keepApiKey, keepSignedIn, signedIn } from "./keep.js";
import { texts } from "./texts.js";
import { sentence } from "./words.js";

export class Access {
  #on;
  #session = null;
  #offered = null;
  #asking = null;
  #declined = false;
  #silent = true; // whoever has signed in here before is asked of the issuer without a word, once
  #trouble = ""; // why the sign-in that has just come back was none
  #others = new BroadcastChannel("chat.signed-out");

  /** on: entered() - calls may succeed now; ended(text) - the sign-in is over; leaving() - the page goes */
  constructor(on) {
    this.#on = on;
    this.#others.onmessage = () => this.#session && this.#forget(); // in another tab
  }

  get known() {
    return this.#session !== null || apiKey() !== null;
  }

  /** What a call carries, null for nothing. Throws ApiError where a token has ended and no other can be had now. */
  async credential() {
    return this.#session ? this.#session.credential() : apiKey();
  }

  /** True when there is another credential than the one that was refused. Who said "not now" is not asked by mere reads. */
  async ask(refused, method) {
    if ((this.#session ? this.#session.token : apiKey()) !== refused) return true;
    byId("key").hidden = false;
    if (this.#declined && method === "GET") return false;
    return this.enter(refused);
  }

  enter(refused = null) {
    this.#asking ??= this.#enter(refused).finally(() => (this.#asking = null));
    return this.#asking;
  }

  async #enter(refused) {
    const { keys, oidc } = await this.#ways();
    let wrong = refused ? (this.#session ? texts.signInRefused : texts.wrongKey) : this.#trouble;
    this.#trouble = "";
    if (this.#session) {
      this.#drop();
      keepSignedIn(null);
    }
    if (oidc) byId("key").querySelector("span").textContent = texts.signIn;
    let signsIn = oidc && !refused && this.#silent && signedIn() !== null;
    for (let silent = signsIn; ; silent = false) {
      if (signsIn) {
        try {
          return await this.#leaveFor(oidc, silent);
        } catch (error) {
          wrong = sentence(error);
        }
      }
      const entered = await askKey({ wrong, signIn: oidc !== null, key: keys || oidc === null });
      this.#declined = entered === null;
      if (this.#declined) return false;
      signsIn = entered.signIn;
      if (signsIn) continue;
      keepApiKey(entered.key, entered.keep);
      this.#on.entered();
      return true;
    }
  }

  /** Sign in without another question. */
  async signIn() {
    try {
      await this.#leaveFor((await this.#ways()).oidc, false);
    } catch (error) {
      this.#on.ended(sentence(error));
    }
  }

  /** Go to the issuer; what comes back is a new page. Throws ApiError. */
  async #leaveFor(oidc, silent) {
    this.#silent = false;
    const { begin } = await import("./oidc.js");
    await begin(oidc, silent);
    return new Promise(() => {});
  }

  /** What the service takes. Where that cannot be read a key is asked for, as ever. */
  async #ways() {
    try {
      this.#offered ??= await (await fetch(new URL("ui/sign-in.json", document.baseURI))).json();
    } catch {
      return { keys: true, oidc: null };
    }
    return this.#offered;
  }

  /** Take what an issuer has sent back in the address, and out of it; before anything else is asked for. */
  async returned() {
    const said = new URLSearchParams(location.search || location.hash.slice(1));
    if (!said.has("state") || !(said.has("code") || said.has("error"))) return;
    history.replaceState(null, "", location.pathname);
    this.#silent = false;
    try {
      const { oidc } = await this.#ways();
      const { finish } = await import("./oidc.js");
      this.#session = await finish(oidc, said, (code) => this.#ended(code));
      if (this.#session) byId("sign-out").querySelector("span").textContent = texts.signOutOf(this.#session.name);
      else keepSignedIn(null);
    } catch (error) {
      this.#trouble = sentence(error);
      if (apiKey() !== null) this.#on.ended(this.#trouble);
    }
  }

  /** Nothing more can be had of the issuer. */
  #ended(code) {
    this.#drop();
    this.#declined = true; // until something is sent, a sentence is enough
    this.#on.ended(texts.errors[code]);
  }

  #drop() {
    this.#session.close();
    this.#session = null;
    byId("sign-out").hidden = true;
    byId("key").hidden = false;
    byId("key").querySelector("span").textContent = texts.signIn;
  }

  /** Forget whoever was here, and tell the issuer. */
  signOut() {
    const address = this.#session?.farewell();
    if (this.#session) this.#others.postMessage(null);
    this.#forget(address);
  }

  #forget(address = null) {
    this.#on.leaving();
    forgetAll();
    if (address) return location.assign(address);
    location.replace(location.pathname);
    location.reload();
  }
}
