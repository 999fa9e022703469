"""A provider of OpenID Connect for tests: real JWTs, a sign-in page, codes with PKCE, refresh tokens.

Strict where providers are: an address that is not registered, a code that was used, another verifier and
a refresh token that was replaced are refused. What a test wants of it is set by its fields.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.support.issuer import private_key, public_jwk, token

CLIENT: Final = "the-page"
_LOGIN: Final = (
    "<!doctype html><title>Provider</title>"
    "<form method=post action='/login?{query}'><button>Continue as Ada</button></form>"
)


@dataclass
class Provider:
    url: str = ""
    algorithm: str = "RS256"
    lives: float = 600  # seconds, of access and id tokens
    fragment: bool = False  # the answer comes behind the #
    gives_refresh_tokens: bool = True
    subject: str = "ada"
    audience: str = "chat"
    has_end_session: bool = True
    down: bool = False
    error: str = ""  # what /authorize answers instead of a code
    spoils: dict[str, Any] = field(default_factory=dict)  # claims of id tokens that are wrong
    callbacks: set[str] = field(default_factory=set)  # registered addresses
    sessions: set[str] = field(default_factory=set)  # who is signed in here, by cookie
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    used: list[str] = field(default_factory=list)  # codes
    refresh_tokens: set[str] = field(default_factory=set)
    given: list[str] = field(default_factory=list)  # all tokens
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)  # paths with their parameters

    def forget(self) -> None:
        """As it began."""
        for name, value in vars(Provider(self.url)).items():
            setattr(self, name, value)

    def count(self, path: str, **said: str) -> int:
        return sum(one == path and said.items() <= form.items() for one, form in self.asked)

    def document(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks.json",
            "revocation_endpoint": f"{self.url}/revoke",
            **({"end_session_endpoint": f"{self.url}/logout"} if self.has_end_session else {}),
            **({"response_modes_supported": ["query", "fragment"]} if self.fragment else {}),
        }

    def signed(self, audience: str, **claims: Any) -> str:
        key = private_key(self.algorithm)
        found = token(
            self.subject,
            key=key,
            algorithm=self.algorithm,
            key_id=self.algorithm,
            lives=self.lives,
            **{"iss": self.url, "aud": audience, **claims},
        )
        self.given.append(found)
        return found

    def tokens(self, nonce: str | None) -> dict[str, Any]:
        claims = {"name": self.subject.title(), **({"nonce": nonce} if nonce else {}), **self.spoils}
        found: dict[str, Any] = {
            "token_type": "Bearer",
            "expires_in": self.lives,
            "access_token": self.signed(self.audience, jti=secrets.token_hex(4)),
            "id_token": self.signed(CLIENT, **claims),
        }
        if self.gives_refresh_tokens:
            found["refresh_token"] = secrets.token_urlsafe()
            self.refresh_tokens.add(found["refresh_token"])
            self.given.append(found["refresh_token"])
        return found

    def exchange(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if form.get("client_id") != CLIENT:
            return 401, {"error": "invalid_client"}
        if form["grant_type"] == "refresh_token":
            if form["refresh_token"] not in self.refresh_tokens:
                return 400, {"error": "invalid_grant"}
            self.refresh_tokens.remove(form["refresh_token"])
            return 200, self.tokens(None)
        asked = self.codes.pop(form["code"], None)
        self.used.append(form["code"])
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (
            asked is None
            or asked["redirect_uri"] != form["redirect_uri"]
            or asked["code_challenge"] != challenge
        ):
            return 400, {"error": "invalid_grant"}
        return 200, self.tokens(asked["nonce"])


class _Handler(http.server.BaseHTTPRequestHandler):
    provider: Provider

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path, form = self._asked(urlsplit(self.path).query)
        provider = self.provider
        if provider.down:
            self._json(503, {})
        elif path == "/.well-known/openid-configuration":
            self._json(200, provider.document())
        elif path == "/jwks.json":
            self._json(200, {"keys": [public_jwk(private_key(name), name) for name in ("RS256", "ES256")]})
        elif path == "/authorize":
            self._authorize(form)
        elif path == "/logout":
            provider.sessions.clear()
            self._redirect(form["post_logout_redirect_uri"])
        else:
            self._json(404, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        path, form = self._asked(body)
        provider = self.provider
        if provider.down:
            self._json(503, {})
        elif path == "/token":
            self._json(*provider.exchange(form))
        elif path == "/revoke":
            provider.refresh_tokens.discard(form["token"])
            self._json(200, {})
        elif path == "/login":
            cookie = secrets.token_hex(8)
            provider.sessions.add(cookie)
            self._redirect(f"/authorize?{urlsplit(self.path).query}", cookie)
        else:
            self._json(404, {})

    def _asked(self, text: str) -> tuple[str, dict[str, str]]:
        form = {name: values[0] for name, values in parse_qs(text).items()}
        self.provider.asked.append((urlsplit(self.path).path, form))
        return self.provider.asked[-1]

    def _authorize(self, form: dict[str, str]) -> None:
        provider = self.provider
        pkce = form.get("code_challenge_method") == "S256" and len(form["code_challenge"]) == 43
        known = form["redirect_uri"] in provider.callbacks and form["client_id"] == CLIENT
        if not (pkce and known and form["response_type"] == "code" and "openid" in form["scope"].split()):
            return self._json(400, {"error": "invalid_request"})
        signed_in = self.headers.get("cookie", "").removeprefix("provider=") in provider.sessions
        said = {"state": form["state"], "iss": provider.url}
        if provider.error:
            said["error"] = provider.error
        elif signed_in:
            said["code"] = secrets.token_urlsafe()
            provider.codes[said["code"]] = form
        elif form.get("prompt") == "none":
            said["error"] = "login_required"
        else:
            return self._send(200, "text/html", _LOGIN.format(query=urlencode(form)).encode())
        mark = "#" if form.get("response_mode") == "fragment" else "?"
        return self._redirect(f"{form['redirect_uri']}{mark}{urlencode(said)}")

    def _json(self, status: int, body: Any) -> None:
        self._send(status, "application/json", json.dumps(body).encode())

    def _redirect(self, to: str, cookie: str | None = None) -> None:
        cookies = {"set-cookie": f"provider={cookie}; HttpOnly; SameSite=Lax"} if cookie else {}
        self._send(302, "text/plain", b"", {"location": to, **cookies})

    def _send(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        own = {"content-type": kind, "content-length": str(len(body))}
        for name, value in (own | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("access-control-allow-origin", "*")  # providers name the page's origin
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)


@contextlib.contextmanager
def providing() -> Iterator[Provider]:
    """By the name `localhost`, another site than the 127.0.0.1 of the tests' services."""
    provider = Provider()
    handler = type("Handler", (_Handler,), {"provider": provider})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    provider.url = f"http://localhost:{server.server_address[1]}"
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
