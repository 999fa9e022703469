"""Which Host a request may name: the defence against DNS rebinding.

A page of any site can make its own name point to 127.0.0.1; its requests then reach us as if they
were our own page's, but name that site as their host. With CHAT_AUTH=none, where reaching the port is
all that a caller needs, only localhost, loopback addresses and CHAT_HOSTS are taken; with keys or
tokens such a page has no credentials, and any name is. Origins of pages are origins.py's.
"""

from __future__ import annotations

from typing import Final

from starlette.types import Scope

from service.api.auth.client_address import Proxies
from service.config.hosts import any_of, host_pattern, is_loopback, split_host
from service.config.settings import Settings
from service.errors import ServiceError

#: asked by probes and scrapers by a pod's or a container's address; they tell nothing of users
PROBES: Final = ("/livez", "/readyz", "/health", "/metrics")


class Hosts:
    def __init__(self, settings: Settings) -> None:
        self._checked = settings.anonymous
        self._named = any_of([host_pattern(entry) for entry in settings.hosts])
        self._proxies = Proxies(settings.trusted_proxies)

    def refusal(self, scope: Scope) -> ServiceError | None:
        """The error for a request whose Host is not taken, None where it is."""
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        # HTTP/1.1 demands exactly one. HTTP/1.0 knows none, and no browser speaks that.
        if len(hosts) > 1 or (not hosts and scope["http_version"] != "1.0"):
            return ServiceError("invalid_request", "A request has one Host header.")
        if not self._checked or scope["path"] in PROBES:
            return None
        if all(self._allows(host) for host in (*hosts, *self._proxies.said(scope, "x-forwarded-host"))):
            return None
        return ServiceError(
            "misdirected_request",
            "Without authentication this service answers to localhost only; CHAT_HOSTS takes other names.",
        )

    def _allows(self, host: str) -> bool:
        found = split_host(host.strip())
        if found is None:
            return False
        name, port = found
        return is_loopback(name) or self._named.fullmatch(f"{name}:{port}") is not None
