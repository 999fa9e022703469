"""A store that goes back under running answers: nothing that was shown is ever contradicted.

The store is put back to a moment before (tests/support/rollback.py), with the owner of the turn alive,
or lost at the same time. Real failovers with real replicas: tests/fault/test_store_loss.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
import redis

from service.store.turn_records import LIFE
from tests.conftest import Start
from tests.double import expected_text
from tests.support import sse
from tests.support.dialects import DIALECTS, Dialect, Outcome
from tests.support.rollback import Snapshot
from tests.support.service import Served
from tests.support.sse import Frame, frames
from tests.support.waiting import eventually_async

ASKED = "[[tokens=160 rate=80 vary]]"


class Logged(NamedTuple):
    """A frame of a log, which always has an id."""

    id: int
    event: str
    data: Any


TERMINAL = ("turn.completed", "turn.stopped", "turn.failed")


@pytest.fixture(params=DIALECTS, ids=lambda dialect: dialect.name)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    found: Dialect = request.param
    return found


@pytest.fixture
async def served(start: Start) -> AsyncIterator[Served]:
    async with start(lease_seconds=0.5) as service:
        yield service


def text_of(events: list[Logged]) -> str:
    return sse.text_of([Frame(*event) for event in events])


class Loss:
    """A turn that streams, a snapshot of its store, and the way back to it."""

    def __init__(self, served: Served, store: redis.Redis, dialect: Dialect) -> None:
        self.served = served
        self.store = store
        self.text = ""
        self.sending = asyncio.create_task(
            dialect.send(served, ASKED, shown=self._shown, headers={"Idempotency-Key": "k"})
        )

    def _shown(self, text: str) -> None:
        self.text = text

    async def begin(self) -> None:
        """Until some is shown, then until more is, which will be lost."""
        engine = self.served.app.state.edge.engine
        await eventually_async(lambda: list(engine.running._lives))
        self.turn = next(iter(engine.running._lives))
        self.live = engine.running._lives[self.turn]
        await eventually_async(lambda: self.live.acknowledged > 8)
        self.past = Snapshot(self.store)
        kept = self.live.acknowledged
        await eventually_async(lambda: self.live.acknowledged > kept + 8)
        self.cursor = self.live.acknowledged

    @property
    def path(self) -> str:
        return f"/v1/sessions/s/turns/{self.turn}"

    async def end(self) -> Outcome:
        return await asyncio.wait_for(self.sending, 20)

    async def events(self, after: int = 0) -> tuple[int, list[Logged]]:
        async with self.served.client.stream("GET", f"{self.path}/events?after={after}") as answer:
            if answer.status_code != 200:
                return answer.status_code, []
            return 200, [
                Logged(int(frame.id or 0), frame.event, frame.data) async for frame in frames(answer)
            ]

    async def code_at(self, cursor: int) -> str:
        answer = await self.served.client.get(f"{self.path}/events?after={cursor}")
        return f"{answer.status_code} {answer.json()['code']}" if answer.content else str(answer.status_code)


async def test_an_owner_whose_log_lost_events_ends_its_turn_as_failed_once(
    served: Served, store: redis.Redis, dialect: Dialect
) -> None:
    loss = Loss(served, store, dialect)
    await loss.begin()
    loss.past.come_back()
    answer = await loss.end()
    assert answer.end in ("failed", "broken", "refused")
    assert expected_text(160, 0).startswith(answer.text)
    turn = (await served.client.get(loss.path)).json()
    assert (turn["state"], turn["error"]["code"]) == ("failed", "store_unavailable")
    status, events = await loss.events()
    assert status == 200
    assert [event.event for event in events if event.event in TERMINAL] == ["turn.failed"]
    assert events[-1].event == "turn.failed"
    assert events[-1].id % LIFE == 0
    assert expected_text(160, 0).startswith(text_of(events))
    assert await loss.code_at(loss.cursor) == "410 events_lost"
    assert (await loss.events(events[-2].id))[1][-1].event == "turn.failed"
    assert await loss.code_at(events[-1].id) == "204"
    said = (await served.client.get("/v1/sessions/s/messages")).json()["data"]
    assert [message["state"] for message in said] == ["completed", "failed"]
    assert expected_text(160, 0).startswith(said[1]["content"])
    repeat = await asyncio.wait_for(dialect.send(served, ASKED, headers={"Idempotency-Key": "k"}), 20)
    if answer.end == "refused":  # nothing had been shown, which frees the key
        assert (repeat.text, repeat.end) == (expected_text(160, 1), "completed")
    else:  # told the same, whatever this one was shown
        assert repeat.end in ("failed", "broken", "refused")


async def test_a_takeover_after_a_loss_is_never_spliced_to_what_was_shown(
    served: Served, store: redis.Redis, dialect: Dialect
) -> None:
    loss = Loss(served, store, dialect)
    await loss.begin()
    loss.live.interrupt("lost host")
    await eventually_async(lambda: not served.app.state.edge.engine.running._lives)
    loss.past.come_back()
    answer = await loss.end()
    whole = expected_text(160, 1)
    if dialect.replaces_text:
        assert (answer.text, answer.end) == (whole, "completed")
    elif loss.text:
        assert answer.end in ("failed", "broken")
        assert expected_text(160, 0).startswith(answer.text)
    else:  # shown at its end only
        assert (answer.text, answer.end) in ((whole, "completed"), ("", "failed"), ("", "refused"))
    await eventually_async(lambda: _completed(served, loss), within=20)
    status, events = await loss.events()
    assert status == 200
    assert [event.event for event in events if event.event in TERMINAL] == ["turn.completed"]
    restarts = [event.id for event in events if event.event == "turn.restarted"]
    assert len(restarts) == 1
    assert restarts[0] % LIFE == 0
    assert text_of(events) == whole
    assert await loss.code_at(loss.cursor) == "410 events_lost"
    before = [event.id for event in events if event.id < restarts[0]]
    assert text_of((await loss.events(before[-1]))[1]) == whole
    repeat = await asyncio.wait_for(dialect.send(served, ASKED, headers={"Idempotency-Key": "k"}), 20)
    assert (repeat.text, repeat.end) == (whole, "completed")


async def _completed(served: Served, loss: Loss) -> bool:
    state: str = (await served.client.get(loss.path)).json()["state"]
    return state == "completed"


async def test_a_cursor_in_what_is_lost_is_told_so_before_anybody_writes_again(
    start: Start, store: redis.Redis
) -> None:
    async with start(lease_seconds=30) as served:
        loss = Loss(served, store, DIALECTS[0])
        await loss.begin()
        loss.live.interrupt("lost host")
        await eventually_async(lambda: not served.app.state.edge.engine.running._lives)
        loss.past.come_back()
        assert await loss.code_at(loss.cursor) == "410 events_lost"
        stopped = (await served.client.post(f"{loss.path}/stop")).json()
        assert stopped["state"] == "stopped"
        assert (await loss.end()).end == "broken"
        assert await loss.code_at(loss.cursor) == "410 events_lost"
        _, events = await loss.events()
        assert events[-1].event == "turn.stopped"
        assert text_of(events) == stopped["text"]
        _, rest = await loss.events(events[-2].id)
        assert [event.event for event in rest] == ["turn.stopped"]


async def test_what_the_provider_ended_during_the_loss_is_not_sealed_over_a_hole(
    served: Served, store: redis.Redis
) -> None:
    """The next that the store hears of the turn after the loss is its end."""
    loss = Loss(served, store, DIALECTS[0])
    await loss.begin()
    flusher = served.app.state.edge.engine._flusher
    flusher.put, put = (lambda live, *, urgent=False: None), flusher.put  # nothing is appended any more
    loss.past.come_back()
    assert (await loss.end()).end == "broken"
    flusher.put = put
    _, events = await loss.events()
    assert [event.event for event in events if event.event in TERMINAL] == ["turn.failed"]
    assert expected_text(160, 0).startswith(text_of(events))
