"""Tickets: signed for one principal, the events of one turn, and ten minutes."""

from __future__ import annotations

import hmac
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.api.auth import tickets as module
from service.api.auth.tickets import Permission, Tickets
from service.config.settings import Settings


class Shared:
    def __init__(self) -> None:
        self.secret_text = "one"
        self.reads = 0

    async def secret(self) -> str:
        self.reads += 1
        return self.secret_text


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now[0]))
    loop = SimpleNamespace(time=lambda: now[0])
    monkeypatch.setattr(module, "asyncio", SimpleNamespace(get_running_loop=lambda: loop))
    return now


def made(shared: Shared, **settings: Any) -> Tickets:
    return Tickets(Settings(_env_file=None, **settings), cast(Any, shared))


PERMISSION = Permission("owner.team", "k1", 1_600)


async def test_a_ticket_is_for_one_turn_and_until_its_end(now: list[float]) -> None:
    tickets = made(Shared())
    ticket = await tickets.sign(PERMISSION, "s", "t")
    assert await tickets.verify(ticket, "s", "t") == PERMISSION
    assert await tickets.verify(ticket, "s", "t2") is None
    assert await tickets.verify(ticket, "s2", "t") is None
    now[0] = 1_599.9
    assert await tickets.verify(ticket, "s", "t") == PERMISSION
    now[0] = 1_600.0
    assert await tickets.verify(ticket, "s", "t") is None


async def test_nothing_of_a_ticket_can_be_changed(now: list[float]) -> None:
    tickets = made(Shared())
    expires, key_id, principal, mac = (await tickets.sign(PERMISSION, "s", "t")).split("~")
    for changed in (
        f"1601~{key_id}~{principal}~{mac}",
        f"{expires}~k2~{principal}~{mac}",
        f"{expires}~{key_id}~owner.other~{mac}",
        f"{expires}~{key_id}~{principal}~{mac[:-1]}",
        f"{expires}~{key_id}~{principal}",
        f"{expires}~{key_id}~{principal}~{mac}~",
        f"x~{key_id}~{principal}~{mac}",
        f"{expires}~{key_id}~{principal}~{mac}é",
        "~" * 600,
        "",
    ):
        assert await tickets.verify(changed, "s", "t") is None


async def test_a_signature_is_compared_in_a_time_that_tells_nothing(
    now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = await made(Shared()).sign(PERMISSION, "s", "t")
    compared: list[tuple[str, str]] = []

    def compare_digest(one: str, two: str) -> bool:
        compared.append((one, two))
        return one == two

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    assert await made(Shared()).verify(ticket, "s", "t") == PERMISSION
    assert await made(Shared()).verify(ticket[:-1] + "?", "s", "t") is None
    right = ticket.rpartition("~")[2]
    assert [set(two) for two in compared] == [{right}, {right, right[:-1] + "?"}]


async def test_replicas_sign_alike_and_agree_again_within_a_minute(now: list[float]) -> None:
    shared = Shared()
    one, two = made(shared), made(shared)
    ticket = await one.sign(PERMISSION, "s", "t")
    assert await two.verify(ticket, "s", "t")
    assert await two.verify(ticket, "s", "t")
    assert shared.reads == 2
    shared.secret_text = "two"  # the store was emptied
    now[0] += 60.1
    assert await two.verify(ticket, "s", "t") is None
    fresh = await one.sign(PERMISSION, "s", "t")
    assert await two.verify(fresh, "s", "t")
    configured = made(shared, secret="x" * 32)
    assert await configured.verify(fresh, "s", "t") is None
