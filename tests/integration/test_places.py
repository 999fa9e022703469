"""Running turns and open streams per principal, and this worker's admission: full, free, healed."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import redis

from service.store.ledger import Bounds
from service.store.turn_records import TurnRef
from tests.conftest import Start
from tests.support.identity import bearer, make_key
from tests.support.service import Served
from tests.support.waiting import eventually_async

SLOW = "[[tokens=2000 rate=100]]"
RUNNING = "chat:{none.anonymous}:running"


async def begin(served: Served, session: str, content: str = SLOW, **headers: str) -> httpx.Response:
    body: dict[str, Any] = {"content": content}
    return await served.client.post(
        f"/v1/sessions/{session}/turns", json=body, headers={"Prefer": "respond-async", **headers}
    )


async def stop(served: Served, begun: httpx.Response, **headers: str) -> None:
    answer = await served.client.post(f"{begun.headers['location']}/stop", headers=headers)
    assert answer.status_code == 200, answer.text


def is_full(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (429, "concurrency_limited"), answer.text
    assert answer.headers["retry-after"] == "1"


async def test_beyond_the_running_turns_a_send_is_refused_until_one_ends(start: Start) -> None:
    async with start(max_running_turns_per_principal=2) as served:
        first, second = await begin(served, "a"), await begin(served, "b")
        assert (first.status_code, second.status_code) == (202, 202)
        is_full(await begin(served, "c"))
        await stop(served, first)
        third = await begin(served, "c", "[[tokens=5]]")
        assert third.status_code == 202
        # At its end, too, the place is free for who has read the end.
        async with served.client.stream("GET", f"{third.headers['location']}/events") as events:
            await events.aread()
        assert (await begin(served, "d")).status_code == 202


async def test_of_fifty_at_once_exactly_five_begin(start: Start, store: redis.Redis) -> None:
    async with start(max_running_turns_per_principal=5) as served:
        answers = await asyncio.gather(*(begin(served, f"s{n}") for n in range(50)))
        assert sorted(answer.status_code for answer in answers) == [202] * 5 + [429] * 45
        assert store.zcard(RUNNING) == 5
        for answer in answers:
            if answer.status_code == 202:
                await stop(served, answer)
        await eventually_async(lambda: store.zcard(RUNNING) == 0)


async def test_a_queued_turn_has_a_place_and_keeps_it(start: Start, store: redis.Redis) -> None:
    async with start(max_running_turns_per_principal=2, lease_seconds=2) as served:
        first = await begin(served, "a")
        queued = await begin(served, "a", "[[tokens=4]]", **{"X-On-Busy": "queue"})
        assert queued.json()["state"] == "queued"
        soonest = store.zscore(RUNNING, queued.json()["id"])

        def renewed() -> bool:
            score = store.zscore(RUNNING, queued.json()["id"])
            return score is not None and score > (soonest or 0)

        await eventually_async(renewed)
        is_full(await begin(served, "b"))
        await stop(served, first)
        async with served.client.stream("GET", f"{queued.headers['location']}/events") as events:
            await events.aread()
        await eventually_async(lambda: store.zcard(RUNNING) == 0)


async def test_an_interrupt_takes_the_place_of_what_it_interrupts(start: Start) -> None:
    async with start(max_running_turns_per_principal=1) as served:
        first = await begin(served, "a")
        second = await begin(served, "a", "[[tokens=2000 rate=100]] instead", **{"X-On-Busy": "interrupt"})
        assert second.status_code == 202
        assert (await served.client.get(first.headers["location"])).json()["state"] == "stopped"
        await stop(served, second)


async def test_what_is_refused_anyway_interrupts_nothing_that_has_the_last_place(start: Start) -> None:
    async with start(max_running_turns_per_principal=1) as served:
        first = await begin(served, "a")
        edit = {"edit": {"message_id": "nope", "content": "x"}, "on_busy": "interrupt"}
        refused = await served.client.post("/v1/sessions/a/turns", json=edit)
        assert (refused.status_code, refused.json()["code"]) == (404, "message_not_found")
        assert (await served.client.get(first.headers["location"])).json()["state"] == "running"
        await stop(served, first)


async def test_what_no_stop_makes_room_for_interrupts_nothing(start: Start) -> None:
    """The day's tokens were used by answers that are over: ending one more brings none back."""
    async with start(budget_tokens_per_day=5_000) as served:
        await served.client.post("/chat", json={"user_query": "[[tokens=3000]]"})
        running = await served.client.post(
            "/v1/sessions/a/turns",
            json={"content": SLOW, "params": {"max_completion_tokens": 20}},
            headers={"Prefer": "respond-async"},
        )
        assert running.status_code == 202
        large = {"content": "word " * 2_000, "on_busy": "interrupt"}
        refused = await served.client.post("/v1/sessions/a/turns", json=large)
        assert (refused.status_code, refused.json()["code"]) == (429, "budget_exhausted")
        assert int(refused.headers["retry-after"]) > 1
        assert (await served.client.get(running.headers["location"])).json()["state"] == "running"
        await stop(served, running)


async def test_repeats_are_never_refused_however_many_come_at_once(start: Start, store: redis.Redis) -> None:
    async with start(max_running_turns_per_principal=1) as served:
        answers = await asyncio.gather(*(begin(served, "a", **{"Idempotency-Key": "k"}) for _ in range(30)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert store.zcard(RUNNING) == 1
        assert (await begin(served, "a", **{"Idempotency-Key": "k"})).status_code == 202
        is_full(await begin(served, "b"))
        await stop(served, answers[0])


async def test_a_key_has_its_own_number_of_turns(start: Start) -> None:
    async with start(auth="keys", max_running_turns_per_principal=1) as served:
        usual, larger = bearer(await make_key(served)), bearer(await make_key(served, max_running_turns=2))
        begun = [await begin(served, "a", **usual), await begin(served, "a", **larger)]
        begun.append(await begin(served, "b", **larger))
        assert [answer.status_code for answer in begun] == [202, 202, 202]
        is_full(await begin(served, "b", **usual))
        is_full(await begin(served, "c", **larger))


async def test_a_place_lapses_with_its_worker_and_comes_back_with_the_turn(
    start: Start, store: redis.Redis
) -> None:
    async with start(max_running_turns_per_principal=1, lease_seconds=2) as served:
        ledger = served.app.state.edge.engine.store.ledger
        bounds = Bounds(running=1)
        dead = TurnRef("none.anonymous", "s", "t_of_the_dead")
        assert (await ledger.reserve(dead, 1, 1, bounds)).tokens == 2  # and its worker is no more
        store.zrem("chat:turns:deadlines", str(dead))  # or a sweep would give back what never began
        is_full(await begin(served, "a"))

        async def free() -> bool:
            return (await begin(served, "a")).status_code == 202

        await eventually_async(free, within=4.5)
        await ledger.hold([dead])  # taken over after all: it has a place, free or not
        assert store.zcard(RUNNING) == 2
        await ledger.settle(dead, "m", {})
        await ledger.hold([dead])
        assert store.zcard(RUNNING) == 1


async def test_beyond_the_open_streams_a_reader_is_refused_until_one_closes(start: Start) -> None:
    async with start(max_open_streams_per_principal=2) as served:
        async with served.client.stream("POST", "/chat", json={"user_query": SLOW}) as first:
            chunks = first.aiter_raw()  # kept: dropping it closes the stream
            await anext(chunks)
            path = f"/v1/sessions/{first.headers['x-session-id']}/turns/{first.headers['x-turn-id']}"
            async with served.client.stream("GET", f"{path}/events") as second:
                assert second.status_code == 200
                is_full(await served.client.get(f"{path}/events"))
                is_full(await served.client.post("/chat", json={"user_query": "hi"}))
                # Who does not read needs no stream.
                assert (await begin(served, "x", "[[tokens=2]]")).status_code == 202

            async def opens() -> bool:
                async with served.client.stream("GET", f"{path}/events") as again:
                    return again.status_code == 200

            await eventually_async(opens)
            await served.client.post(f"{path}/stop")
        for _ in range(5):  # whoever has read the end has a place for the next
            assert (await served.client.post("/chat", json={"user_query": "[[tokens=3]]"})).status_code == 200


async def test_a_full_worker_answers_503_and_takes_sends_again(start: Start) -> None:
    async with start(max_running_turns=2) as served:
        running = [await begin(served, "a"), await begin(served, "b")]
        answers = await asyncio.gather(begin(served, "c"), begin(served, "d"), begin(served, "e"))
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
            assert answer.headers["retry-after"] == "1"
        waiting = asyncio.create_task(begin(served, "c"))
        await stop(served, running[0])
        assert (await waiting).status_code == 202


async def test_stops_of_one_waiting_turn_at_the_same_moment_are_one_stop(start: Start) -> None:
    """They had fenced each other until the worker died of it."""
    async with start() as served:
        first = await begin(served, "a")
        queued = await begin(served, "a", "[[say=never]]", **{"X-On-Busy": "queue"})
        assert (first.status_code, queued.status_code) == (202, 202)
        path = queued.headers["location"]
        for _ in range(3):  # connections that are open make them arrive together
            await asyncio.gather(*(served.client.get("/livez") for _ in range(10)))
        answers = await asyncio.gather(*(served.client.post(f"{path}/stop") for _ in range(10)))
        assert [answer.status_code for answer in answers] == [200] * 10
        events = (await served.client.get(f"{path}/events")).text
        assert events.count("event: turn.stopped") == 1
        await stop(served, first)


async def test_a_session_that_is_deleted_while_it_answers_ends_for_readers_elsewhere(start: Start) -> None:
    async def reads(served: Served, path: str) -> str:
        return (await served.client.get(f"{path}/events")).text

    async with start() as one, start() as other:
        begun = await begin(one, "a")
        path = begun.headers["location"].removesuffix("/events")
        readers = [asyncio.create_task(reads(other, path)) for _ in range(8)]
        tails = other.app.state.edge.engine.tails
        await eventually_async(lambda: any(tail.readers == 8 and tail.last for tail in tails.all()))
        assert (await one.client.delete("/v1/sessions/a")).status_code == 204
        for text in await asyncio.wait_for(asyncio.gather(*readers), 5):
            assert text.count("event: turn.stopped") == 1


async def test_a_log_that_has_gone_ends_all_its_readers_at_the_next_bell(
    start: Start, store: redis.Redis
) -> None:
    async with start() as one, start(local_cache=False) as other:
        begun = await begin(one, "a")
        ref = TurnRef("none.anonymous", "a", begun.headers["x-turn-id"])
        readers = [
            asyncio.create_task(other.client.get(f"/v1/sessions/a/turns/{ref.turn_id}/events"))
            for _ in range(4)
        ]
        tails = other.app.state.edge.engine.tails
        await eventually_async(lambda: any(tail.readers == 4 and tail.last for tail in tails.all()))
        log = one.app.state.edge.engine.store.log.name(ref)
        store.delete(*store.keys("chat:{none.anonymous/a}*"))
        store.publish(log, "99")
        ends = await asyncio.wait_for(asyncio.gather(*readers, return_exceptions=True), 5)
        assert [type(end) for end in ends] == [httpx.RemoteProtocolError] * 4  # an answer that is not whole
