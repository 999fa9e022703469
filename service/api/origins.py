"""Which pages may change something: the defence against requests that other sites make.

Browsers send a POST without a body, or with one that is no JSON, to any site without asking it first
(CORS keeps only the answer from the page). So whatever is not a read and comes from a page has to come
from our own origin or from one of CHAT_CORS_ORIGINS, whatever its route does with a body. Clients that are no
browsers send neither Origin nor Sec-Fetch-Site. The headers of CORS are Starlette's (app.py).
"""

from __future__ import annotations

import re
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

from service.api.auth.client_address import Proxies
from service.api.bodies import is_json
from service.config.hosts import any_of, origin_pattern, own_origin
from service.config.settings import Settings
from service.errors import ServiceError

_READS: Final = frozenset(("GET", "HEAD", "OPTIONS"))


def allowed_origins(settings: Settings) -> re.Pattern[str]:
    """What CHAT_CORS_ORIGINS lets in, as one pattern for the Origin header."""
    return any_of([origin_pattern(entry) for entry in settings.cors_origins])


class Origins:
    def __init__(self, settings: Settings) -> None:
        self._allowed = allowed_origins(settings)
        self._proxies = Proxies(settings.trusted_proxies)

    def refusal(self, scope: Scope) -> ServiceError | None:
        """The error for a request from a page that may not change anything, None where it may."""
        if scope["method"] in _READS:
            return None
        headers = Headers(scope=scope)
        origins, site = headers.getlist("origin"), headers.get("sec-fetch-site", "")
        if not self._foreign(scope, headers, origins, site):
            return None
        if _has_body(headers) and not is_json(headers.get("content-type", "")):
            return ServiceError("unsupported_media_type", "Send the body as application/json.")
        return ServiceError(
            "forbidden", "Pages of this origin may not call this service; CHAT_CORS_ORIGINS takes others."
        )

    def _foreign(self, scope: Scope, headers: Headers, origins: list[str], site: str) -> bool:
        if site in ("same-origin", "none"):
            return False  # by the browser, no page can forge it; also right where a proxy changes the Host
        if not origins:
            return site != ""
        hosts = (headers.get("host", ""), *self._proxies.said(scope, "x-forwarded-host"))
        return not all(
            self._allowed.fullmatch(origin) or any(own_origin(origin, host) for host in hosts)
            for origin in origins
        )


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
