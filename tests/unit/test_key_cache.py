"""API keys in a worker's memory: how often they are read, and for how long an outage is bridged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.api.auth import known_records
from service.api.auth.key_cache import Keyring
from service.errors import StoreUnavailable
from service.store.credentials import Credential, digest, new_key, new_text
from tests.support.clock import LoopClock


class Records:
    """In the store's place. Not the memory that is tested."""

    def __init__(self) -> None:
        self.held: dict[str, Credential] = {}
        self.reads: list[str] = []
        self.noted: list[str] = []
        self.away = False

    async def get(self, key_id: str) -> Credential | None:
        self.reads.append(key_id)
        await asyncio.sleep(0)
        if self.away:
            raise StoreUnavailable
        return self.held.get(key_id)

    async def used(self, key_id: str) -> None:
        self.noted.append(key_id)

    def make(self, **fields: Any) -> str:
        text, credential = new_key("n", **{"last_used": int(time.time()), **fields})
        self.held[credential.id] = credential
        return text


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def keyring(records: Records) -> Keyring:
    async def unless_silent(call: Awaitable[Any]) -> Any:
        return await call

    client = SimpleNamespace(unless_silent=unless_silent)
    return Keyring(cast(Any, client), cast(Any, records))


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> LoopClock:
    return LoopClock(monkeypatch, known_records)


async def test_a_key_in_use_is_read_once_in_two_seconds(
    records: Records, keyring: Keyring, clock: LoopClock
) -> None:
    key = records.make()
    found = await asyncio.gather(*(keyring.find(key) for _ in range(30)))
    assert all(found)
    clock.now += 1.99
    assert await keyring.find(key)
    assert len(records.reads) == 1
    clock.now += 0.02
    for _ in range(3):
        assert await keyring.find(key)
    assert len(records.reads) == 2


async def test_a_revoked_key_is_known_to_be_after_two_seconds(
    records: Records, keyring: Keyring, clock: LoopClock
) -> None:
    key = records.make()
    assert await keyring.find(key)
    (key_id, credential) = next(iter(records.held.items()))
    records.held[key_id] = replace(credential, revoked=1)
    clock.now += 2.01
    found = await keyring.find(key)
    assert found is not None
    assert found.state(0) == "revoked"


async def test_only_the_secret_of_a_key_opens_it(
    records: Records, keyring: Keyring, clock: LoopClock
) -> None:
    key = records.make()
    other = new_text(next(iter(records.held)))
    assert await keyring.find(other) is None
    assert await keyring.find(key)
    assert await keyring.find(other) is None
    assert await keyring.find("nonsense") is None


async def test_a_new_secret_works_at_once(records: Records, keyring: Keyring, clock: LoopClock) -> None:
    old = records.make()
    assert await keyring.find(old)
    (key_id, credential) = next(iter(records.held.items()))
    new = new_text(key_id)
    records.held[key_id] = replace(credential, digest=digest(new))
    assert await keyring.find(new)
    assert await keyring.find(old) is None


async def test_a_made_up_key_is_asked_for_once_in_two_seconds(
    records: Records, keyring: Keyring, clock: LoopClock
) -> None:
    unknown, _ = new_key("n")
    for _ in range(3):
        assert await keyring.find(unknown) is None
    assert len(records.reads) == 1
    clock.now += 2.01
    assert await keyring.find(unknown) is None
    assert len(records.reads) == 2


async def test_an_outage_locks_nobody_out_who_was_known_for_five_minutes(
    records: Records, keyring: Keyring, clock: LoopClock
) -> None:
    key = records.make()
    assert await keyring.find(key)
    records.away = True
    clock.now += 290
    for _ in range(3):
        assert await keyring.find(key)
    assert len(records.reads) == 2  # and is asked once a second meanwhile
    clock.now += 1.01
    assert await keyring.find(key)
    assert len(records.reads) == 3
    clock.now += 20
    with pytest.raises(StoreUnavailable):
        await keyring.find(key)
    with pytest.raises(StoreUnavailable):
        await keyring.find(new_key("n")[0])


async def test_the_use_of_a_key_is_noted_once_an_hour(
    records: Records, keyring: Keyring, clock: LoopClock
) -> None:
    key = records.make(last_used=None)
    for _ in range(3):
        assert await keyring.find(key)
    assert len(records.noted) == 1
    stale = records.make(last_used=int(time.time()) - 3_700)
    fresh = records.make(last_used=int(time.time()) - 3_500)
    for _ in range(2):
        assert await keyring.find(stale)
        assert await keyring.find(fresh)
    assert len(records.noted) == 2


async def test_memories_are_bounded(
    records: Records, keyring: Keyring, clock: LoopClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_records, "_MOST", 5)
    keys = [records.make() for _ in range(8)]
    for key in keys:
        assert await keyring.find(key)
        assert await keyring.find(new_key("n")[0]) is None
    assert (len(keyring._known), len(keyring._unknown)) == (5, 5)
    assert list(keyring._known) == list(records.held)[-5:]
