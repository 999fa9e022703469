"""The address a request comes from. X-Forwarded-For is believed from configured proxies only."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: where there is no address: a client on a unix socket
LOCAL: Final = "local"
# Longer chains of proxies than this do not exist; longer headers are a waste of time.
_LONGEST_CHAIN: Final = 32


class Proxies:
    """Our own proxies, by CHAT_TRUSTED_PROXIES. Only their headers about a client are believed."""

    def __init__(self, configured: Sequence[str]) -> None:
        self._networks = tuple(ipaddress.ip_network(part, strict=False) for part in configured)

    def client_address(self, scope: Scope) -> str:
        """The address nearest to us that is not one of our proxies."""
        peer = _parse((scope.get("client") or ("",))[0])
        if peer is None:
            return LOCAL
        if not self._have(peer):
            return str(peer)
        chain = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")[-_LONGEST_CHAIN:]
        for part in reversed(chain):
            address = _parse(part)
            if address is None:
                break
            peer = address
            if not self._have(address):
                break
        return str(peer)

    def said(self, scope: Scope, header: str) -> list[str]:
        """The values of a header that our proxies set, the outermost first: X-Forwarded-Host and others.

        A client may have sent the header too; a page of another site cannot.
        """
        given = ",".join(Headers(scope=scope).getlist(header))
        peer = _parse((scope.get("client") or ("",))[0]) if given else None
        if peer is None or not self._have(peer):
            return []
        return [part.strip() for part in given.split(",") if part.strip()]

    def _have(self, address: Address) -> bool:
        return any(address.version == network.version and address in network for network in self._networks)


def customer(address: str) -> str:
    """Who counts as one caller: an IPv4 address, or the /64 of which an IPv6 host can use any address."""
    parsed = _parse(address)
    if not isinstance(parsed, ipaddress.IPv6Address):
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False).network_address) + "_64"


def _parse(text: str) -> Address | None:
    """An address as proxies write it: `1.2.3.4`, `1.2.3.4:5678`, `2001:db8::1`, `[2001:db8::1]:5678`."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if isinstance(mapped, ipaddress.IPv4Address) else address
