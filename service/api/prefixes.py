"""The path below which a proxy serves us: our links begin with it, and routes are found without it.

A proxy that removes it from the path sends it as `X-Forwarded-Prefix`, which is believed from configured
proxies only. An application that mounts us, or an ASGI server, sets `root_path`, which is still in the path.
Relative links, as the pages have them, need neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from starlette.types import Scope

from service.api.auth.client_address import Proxies
from service.config.settings import Settings

Header = tuple[bytes, bytes]

# Plain segments: a link that began with `//` would lead to another host.
_PREFIX: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~%-]{1,64}){1,8}", re.ASCII)


class Prefixes:
    def __init__(self, settings: Settings) -> None:
        self._proxies = Proxies(settings.trusted_proxies)

    def take_off(self, scope: Scope) -> str:
        """Remove the prefix from the scope's path. Returns it, "" for none."""
        root = scope.get("root_path", "")
        if root:
            scope["root_path"] = ""
            if scope["path"] == root or scope["path"].startswith(root + "/"):
                scope["path"] = scope["path"][len(root) :] or "/"
        return self._forwarded(scope) + str(root)

    def _forwarded(self, scope: Scope) -> str:
        """The prefixes of all proxies, the outermost first; "" where that is no path."""
        prefix = "".join(part.rstrip("/") for part in self._proxies.said(scope, "x-forwarded-prefix"))
        return prefix if _PREFIX.fullmatch(prefix) else ""


def below(prefix: str, headers: Iterable[Header]) -> list[Header]:
    """Headers of a response, with the prefix in front of a Location that is a path."""
    return [
        (name, prefix.encode() + value if prefix and name == b"location" and value[:1] == b"/" else value)
        for name, value in headers
    ]
