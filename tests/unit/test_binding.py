"""The sockets that `run` and `serve` take before anything else is started."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from service.cli.listening import Refused, listen
from service.config.loading import load_settings


@pytest.fixture
def held() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def test_a_port_that_another_process_has_only_bound_is_taken_and_then_in_use(
    held: contextlib.ExitStack,
) -> None:
    other = held.enter_context(socket.socket())
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    other.bind(("127.0.0.1", 0))
    port = other.getsockname()[1]
    (first,) = listen(load_settings(_env_file=None), port)
    held.enter_context(first)
    with pytest.raises(OSError, match="in use"):
        other.listen()
    with pytest.raises(Refused, match=f"Port {port} of 127.0.0.1 is in use"):
        listen(load_settings(_env_file=None), port)


def test_the_unspecified_address_of_ipv6_takes_ipv4_too(held: contextlib.ExitStack) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    (listener,) = listen(load_settings(_env_file=None, host="::"), 0)
    held.enter_context(listener)
    address = ("127.0.0.1", listener.getsockname()[1])
    held.enter_context(socket.create_connection(address, timeout=5))


def test_a_name_with_addresses_of_both_kinds_has_a_listener_for_each(held: contextlib.ExitStack) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    listeners = [held.enter_context(each) for each in listen(load_settings(_env_file=None, host=""), port)]
    assert {each.family for each in listeners} == {socket.AF_INET, socket.AF_INET6}
