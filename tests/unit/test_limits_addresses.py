"""Whose request it is, by address: X-Forwarded-For counts from configured proxies only."""

from __future__ import annotations

from typing import Any

import pytest

from service.api.auth.client_address import Proxies, customer

PROXIES = Proxies(["10.0.0.0/8", "2001:db8:ffff::/48"])


def scope(peer: str | None, *forwarded: str) -> dict[str, Any]:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return {"type": "http", "client": (peer, 1234) if peer else None, "headers": headers}


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["6.6.6.6, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        ("10.1.2.3", ["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["10.4.4.4, 10.5.5.5"], "10.4.4.4"),
        ("10.1.2.3", ["198.51.100.1, nonsense"], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.1, "], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.1, nonsense, 10.9.9.9"], "10.9.9.9"),
        ("10.1.2.3", ["198.51.100.1:8080"], "198.51.100.1"),
        ("10.1.2.3", ["[2001:db8::1]:443"], "2001:db8::1"),
        ("::ffff:10.1.2.3", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("2001:db8:ffff::1", ["2001:db8::1"], "2001:db8::1"),
        (None, ["198.51.100.1"], "local"),
    ],
)
def test_the_client_is_the_first_address_from_the_right_that_is_no_proxy(
    peer: str | None, forwarded: list[str], address: str
) -> None:
    assert PROXIES.client_address(scope(peer, *forwarded)) == address


def test_without_proxies_the_header_counts_for_nothing() -> None:
    assert Proxies(()).client_address(scope("127.0.0.1", "198.51.100.1")) == "127.0.0.1"


def test_an_endless_chain_is_not_walked_to_its_end() -> None:
    chain = ", ".join(["198.51.100.1"] + ["10.0.0.1"] * 5_000)
    assert PROXIES.client_address(scope("10.1.2.3", chain)) == "10.0.0.1"


def test_an_ipv6_host_is_counted_by_its_network() -> None:
    assert customer("2001:db8:1:2:3:4:5:6") == customer("2001:db8:1:2::ffff") == "2001:db8:1:2::_64"
    assert customer("2001:db8:1:3::1") != customer("2001:db8:1:2::1")
    assert customer("198.51.100.1") == "198.51.100.1"
    assert customer("local") == "local"
