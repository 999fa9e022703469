"""What is known of the store, look by look: one slow answer is no outage, a refusal stays until it writes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from service.config.settings import Settings
from service.errors import StoreRefusesWrites, StoreUnavailable
from service.store import health as health_module
from service.store.health import Health


class Client:
    """Answers each look as it is told to; `asked` is whether it was to write in earnest."""

    def __init__(self) -> None:
        self.settings = Settings(_env_file=None)
        self.refusals = 0
        self.answers: Exception | None = None
        self.asked: list[bool] = []
        self.policy = ""

    async def check(self, *, in_earnest: bool) -> None:
        self.asked.append(in_earnest)
        if self.answers is not None:
            raise self.answers

    async def evicting_policy(self) -> str:
        return self.policy


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def health(client: Client) -> Health:
    return Health(client)  # type: ignore[arg-type]  # all that it calls


async def test_two_looks_without_an_answer_are_an_outage_and_one_is_none(
    client: Client, health: Health
) -> None:
    known = []
    for answers in (None, StoreUnavailable(), StoreUnavailable(), None, StoreUnavailable(), None):
        client.answers = answers
        await health.look()
        known.append(health.known)
    assert known == ["ok", "ok", "unavailable", "ok", "ok", "ok"]
    health.silent()
    assert health.known == "unavailable"


async def test_a_look_has_a_bound(client: Client, health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "bound", 0.01)
    monkeypatch.setattr(client, "check", lambda *, in_earnest: asyncio.Event().wait())
    for _ in range(2):
        await asyncio.wait_for(health.look(), 20)
    assert health.known == "unavailable"


async def test_a_refusal_is_told_with_its_age_and_until_a_write_in_earnest_goes(
    client: Client, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(health_module, "time", SimpleNamespace(monotonic=lambda: now))
    await health.look()
    assert (health.refusal, client.asked) == (("", 0.0), [False])
    client.refusals = 1  # somebody was refused what the probe does not try
    client.answers = StoreRefusesWrites("full")
    await health.look()
    assert (health.known, health.refusal) == ("refuses writes: full", ("full", 0.0))
    now += 5.0
    client.answers = StoreRefusesWrites("disk")
    await health.look()
    assert health.refusal == ("disk", 5.0)  # it has not written in between
    client.answers = StoreUnavailable()
    await health.look()
    assert health.known == "refuses writes: disk"
    client.answers = None
    await health.look()
    assert (health.known, health.refusal) == ("ok", ("", 0.0))
    await health.look()
    assert client.asked == [False, True, True, True, True, False]


async def test_an_eviction_policy_is_looked_at_every_fifth_time(client: Client, health: Health) -> None:
    known: list[Any] = []
    client.policy = "allkeys-lru"
    for _ in range(11):
        await health.look()
        known.append(health.known)
        client.policy = ""
    assert known == ["evicts: allkeys-lru"] * 5 + ["ok"] * 6
