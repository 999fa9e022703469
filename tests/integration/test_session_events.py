"""What happens in a session is told to whoever has it open: at another replica, after a cut, to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest
import redis

from service.api.auth import known_records
from service.engine import session_watch
from tests.conftest import Start
from tests.support.identity import bearer, credentials_of, id_in, make_key
from tests.support.service import Served

Told = tuple[str, dict[str, Any], int | None]
BODY = {"content": "[[tokens=5]]"}


class Watch:
    """The events of a session as they come."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def next(self) -> Told:
        """The next event; StopAsyncIteration at the end."""
        name, data, number = "", {}, None
        async with asyncio.timeout(10):
            while True:
                line = await anext(self._lines)
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    data = orjson.loads(line[6:])
                elif line.startswith("id: "):
                    number = int(line[4:])
                elif not line and name:
                    return name, data, number

    async def until(self, name: str) -> tuple[list[str], int | None]:
        """The names up to an event that has an id and is called so, and its id."""
        names = []
        while True:
            found, _, number = await self.next()
            names.append(found)
            if found == name and (number is not None or name == "session.deleted"):
                return names, number


@asynccontextmanager
async def watching(
    served: Served, known: int | None = None, headers: dict[str, str] | None = None
) -> AsyncIterator[Watch]:
    headers = {**(headers or {}), **({} if known is None else {"Last-Event-ID": str(known)})}
    async with served.client.stream("GET", "/v1/sessions/s/events", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Watch(response.aiter_lines())


async def send(served: Served, body: dict[str, str] = BODY) -> str:
    headers = {"Prefer": "respond-async"}
    answer = await served.client.post("/v1/sessions/s/turns", json=body, headers=headers)
    turn: str = answer.json()["id"]
    return turn


async def test_turns_titles_and_the_end_are_told_at_another_replica(start: Start) -> None:
    async with start() as one, start() as other:
        await one.client.post("/v1/sessions", json={"id": "s", "title": "first"})
        async with watching(other) as watch:
            name, data, _ = await watch.next()
            assert (name, data["title"], data["active_turn"]) == ("session.changed", "first", None)
            turn = await send(one, {"content": "[[tokens=1000 rate=20]]"})  # longer than two reads are apart
            assert await watch.next() == ("turn.begun", {"turn_id": turn}, None)
            assert (await watch.next())[1]["active_turn"] == turn
            await one.client.post(f"/v1/sessions/s/turns/{turn}/stop")
            assert await watch.next() == ("turn.ended", {"turn_id": turn}, None)
            name, data, _ = await watch.next()
            assert (name, data["active_turn"], data["turns"]) == ("session.changed", None, 1)
            await one.client.patch("/v1/sessions/s", json={"title": "second"})
            assert (await watch.next())[1]["title"] == "second"
            await one.client.delete("/v1/sessions/s")
            assert await watch.next() == ("session.deleted", {}, None)
            with pytest.raises(StopAsyncIteration):
                await watch.next()


async def test_who_comes_back_is_told_what_is_different_and_nothing_that_is_not(served: Served) -> None:
    await served.client.post("/v1/sessions", json={"id": "s", "title": "first"})
    async with watching(served) as watch:
        _, known = await watch.until("session.changed")
    async with watching(served, known) as watch:
        await served.client.patch("/v1/sessions/s", json={"title": "second"})
        name, data, last = await watch.next()
        assert (name, data["title"]) == ("session.changed", "second")
    assert last != known
    async with watching(served, known) as watch:
        assert await watch.next() == (name, data, last)


async def test_a_session_that_is_not_there_and_a_bad_cursor_are_refused(served: Served) -> None:
    answer = await served.client.get("/v1/sessions/s/events")
    assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")
    await served.client.post("/v1/sessions", json={"id": "s"})
    answer = await served.client.get("/v1/sessions/s/events", headers={"Last-Event-ID": "x"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor")


async def test_open_watches_are_bounded_like_answers(start: Start) -> None:
    async with start(max_open_streams_per_principal=1) as served:
        await served.client.post("/v1/sessions", json={"id": "s"})
        async with watching(served) as watch:
            await watch.next()
            answer = await served.client.get("/v1/sessions/s/events")
            assert (answer.status_code, answer.json()["code"]) == (429, "concurrency_limited")


async def test_a_worker_that_goes_away_ends_its_watches_and_waits_for_none(start: Start) -> None:
    async with start() as served:
        await served.client.post("/v1/sessions", json={"id": "s"})
        async with watching(served) as watch:
            await watch.next()
            served.app.state.edge.engine.drain()
            with pytest.raises((StopAsyncIteration, httpx.HTTPError)):
                await watch.next()


async def test_a_session_is_read_once_for_all_who_have_it_open_and_less_often_the_more_they_are(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred watches of the largest session, changed 20 times a second, were 250 MB/s of Redis."""
    sessions = served.app.state.edge.engine.store.sessions
    get, reads = sessions.get, 0

    async def counting(principal: str, session_id: str) -> Any:
        nonlocal reads
        reads += 1
        return await get(principal, session_id)

    await served.client.post("/v1/sessions", json={"id": "s", "title": "0"})
    async with AsyncExitStack() as stack:
        watches = [await stack.enter_async_context(watching(served)) for _ in range(20)]
        for watch in watches:
            await watch.next()
        monkeypatch.setattr(sessions, "get", counting)
        monkeypatch.setattr(session_watch, "_TELLING_SECONDS", 0.05)  # of 20: a second
        for number in range(1, 31):
            answer = await served.client.patch("/v1/sessions/s", json={"title": str(number)})
            assert answer.json()["title"] == str(number)
        patched = 2 * 30  # reads of the calls themselves
        for watch in watches:
            while (await watch.next())[1]["title"] != "30":
                pass
        assert reads - patched < 15  # 600 when each read for itself


@pytest.mark.parametrize("end", ["revoke", "rotate", "expire"])
async def test_a_credential_that_has_ended_is_told_nothing_more(
    start: Start, store: redis.Redis, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(known_records, "_FRESH_SECONDS", 0.0)
    async with start(auth="keys") as served:
        keys = credentials_of(served)
        key, other = await make_key(served, owner="o"), await make_key(served, owner="o")
        await served.client.post("/v1/sessions", json={"id": "s"}, headers=bearer(other))
        async with watching(served, headers=bearer(key)) as watch:
            await watch.next()
            if end == "revoke":
                assert await keys.revoke(id_in(key))
            elif end == "rotate":
                assert await keys.rotate(id_in(key))
            else:
                store.hset(f"chat:{{credentials}}:{id_in(key)}", "expires", "1")
            answer = await served.client.patch("/v1/sessions/s", json={"title": "x"}, headers=bearer(other))
            assert answer.status_code == 200
            with pytest.raises(StopAsyncIteration):
                await watch.next()
