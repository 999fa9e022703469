"""The security headers of every response, and the bound on request headers.

An answer of the API is data: no browser may run, frame, sniff or cache it. A response that has a
Content-Security-Policy already keeps it. The bound on the bytes of a request's head is the
server's (serving/http_protocol.py), the bounds on bodies are bodies.py's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starlette.types import Scope

from service.api.auth.client_address import Proxies
from service.config.settings import Settings
from service.errors import ServiceError

Header = tuple[bytes, bytes]

# Browsers send 20, chains of proxies add 10; a head of 64 KiB could hold 16,000.
_MOST_HEADERS: Final = 128

# Two that differ leave open which counts, and a proxy in front may take the other.
_SINGLE: Final = frozenset(
    (
        b"authorization",
        b"content-encoding",
        b"content-type",
        b"idempotency-key",
        b"last-event-id",
        b"x-api-key",
        b"x-fallback-idempotency-key",
        b"x-on-busy",
        b"x-session-id",
    )
)

_ALWAYS: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_DATA: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_TRANSPORT: Final = (b"strict-transport-security", b"max-age=31536000")
_PRIVATE: Final = (b"cache-control", b"no-store")


class Hardening:
    def __init__(self, settings: Settings) -> None:
        self._production = settings.production
        self._proxies = Proxies(settings.trusted_proxies)

    def refusal(self, scope: Scope) -> ServiceError | None:
        headers = scope["headers"]
        if len(headers) > _MOST_HEADERS:
            return ServiceError("invalid_request", "The request has too many headers.", status=431)
        seen: dict[bytes, bytes] = {}
        for name, value in headers:
            if name in _SINGLE and seen.setdefault(name, value) != value:
                sentence = f"The request has two {name.decode()} headers that differ."
                return ServiceError("invalid_request", sentence)
        return None

    def headers(
        self, scope: Scope, given: Iterable[Header], limits: Iterable[Header] = (), *, private: bool
    ) -> list[Header]:
        """Headers to add to a response that has `given`. `limits` are those of the request limit;
        `private`: the response is for one caller."""
        names = {name.lower() for name, _ in given}
        added = [*_ALWAYS, *limits]
        if b"content-security-policy" not in names:
            added.append(_DATA)
        if private and b"cache-control" not in names:
            added.append(_PRIVATE)
        if self._production and self._secure(scope):
            added.append(_TRANSPORT)
        return added

    def _secure(self, scope: Scope) -> bool:
        """True when the client came by https, as far as a proxy of ours says so."""
        return scope.get("scheme") == "https" or self._proxies.said(scope, "x-forwarded-proto") == ["https"]
