"""The address a request comes from. X-Forwarded-For is believed from configured proxies only."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: where there is no address: a client on a unix socket
LOCAL: Final = "local"
# Longer chains of proxies than this do not exist; longer headers are a waste of time.
_LONGEST_CHAIN: Final = 32


def networks(configured: Sequence[str]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(part, strict=False) for part in configured)


def client_address(scope: Scope, trusted: Sequence[Network]) -> str:
    """The first address, counted from us, that is not one of our proxies."""
    peer = _parse((scope.get("client") or ("",))[0])
    if peer is None:
        return LOCAL
    if not _within(peer, trusted):
        return str(peer)
    chain = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")[-_LONGEST_CHAIN:]
    for part in reversed(chain):
        address = _parse(part)
        if address is None:
            break
        peer = address
        if not _within(address, trusted):
            break
    return str(peer)


def by_trusted_proxy(scope: Scope, trusted: Sequence[Network]) -> bool:
    peer = _parse((scope.get("client") or ("",))[0])
    return peer is not None and _within(peer, trusted)


def customer(address: str) -> str:
    """What is counted as one caller: an IPv4 address, or the /64 that an IPv6 host can use at will."""
    parsed = _parse(address)
    if not isinstance(parsed, ipaddress.IPv6Address):
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False).network_address) + "_64"


def _within(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in trusted)


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
