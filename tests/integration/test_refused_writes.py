"""A store that answers and refuses to write: sends are told so, nobody is paid, reads go on, it heals."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from prometheus_client import REGISTRY

from tests.double import Double, expected_text
from tests.support.identity import bearer, make_key
from tests.support.redis import RedisServer
from tests.support.service import Served, serve
from tests.support.waiting import eventually, eventually_async


@dataclass
class Store:
    """A Redis of the test's own, asked by the service as a user whose rights can be taken away."""

    server: RedisServer
    admin: redis.Redis
    url: str
    home: Path

    def give(self, *rights: str) -> None:
        self.admin.acl_setuser(
            "chat",
            enabled=True,
            reset=True,
            passwords=["+pw"],
            keys=["*"],
            channels=["*"],
            categories=["+@all", *(right for right in rights if "@" in right)],
            commands=[right for right in rights if "@" not in right],
        )

    def writes(self) -> bool:
        """Some of an answer is in a log."""
        return any(self.admin.xlen(key) > 4 for key in self.admin.scan_iter("*:log:*"))

    def heal(self) -> None:
        self.admin.replicaof("NO", "ONE")
        self.admin.config_set("min-replicas-to-write", 0)
        self.admin.config_set("maxmemory", 0)
        self.give()
        self._make_way()
        self._save("ok")
        self.admin.config_set("save", "")

    def fill(self) -> None:
        self.admin.config_set("maxmemory", 1)

    def become_replica(self) -> None:
        self.admin.replicaof("127.0.0.1", 1)

    def lose_replicas(self) -> None:
        self.admin.config_set("min-replicas-to-write", 1)

    def forbid(self) -> None:
        self.give("-@write")

    def forbid_hashes(self) -> None:
        self.give("-hset")

    def break_disk(self) -> None:
        self._make_way()
        (self.home / "dump.rdb" / "in the way").mkdir(parents=True)
        self.admin.config_set("save", "3600 1")
        self._save("err")

    def _make_way(self) -> None:
        dump = self.home / "dump.rdb"
        if dump.is_dir():
            shutil.rmtree(dump)
        dump.unlink(missing_ok=True)

    def _save(self, outcome: str) -> None:
        def saved() -> bool:
            status = self.admin.info("persistence")
            if status["rdb_last_bgsave_status"] == outcome:
                return True
            if status["rdb_bgsave_in_progress"] == 0:
                self.admin.bgsave()
            return False

        eventually(saved, within=20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("refusing"), "--appendonly", "no")
    yield server
    server.close()


@pytest.fixture
def store(server: RedisServer) -> Iterator[Store]:
    admin = server.client()
    url = server.url.replace("redis://", "redis://chat:pw@")
    found = Store(server, admin, url, server.directory)
    found.heal()
    admin.flushall()
    yield found
    found.heal()
    admin.close()


WAYS: dict[str, Callable[[Store], None]] = {
    "full": Store.fill,
    "read_only": Store.become_replica,
    "no_replicas": Store.lose_replicas,
    "disk": Store.break_disk,
    "forbidden": Store.forbid,
}


@asynccontextmanager
async def serving(store: Store, url: str, **settings: Any) -> AsyncIterator[Served]:
    async with serve(store.url, url, **settings) as served:
        yield served


async def ask(served: Served, wish: str = "[[tokens=3]]", **body: Any) -> httpx.Response:
    return await served.client.post("/chat", json={"user_query": wish, **body})


async def refused(served: Served, **body: Any) -> None:
    begin = time.monotonic()
    answer = await ask(served, **body)
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert time.monotonic() - begin < 3


def gauge(reason: str) -> float | None:
    return REGISTRY.get_sample_value("chat_store_refuses_writes", {"reason": reason})


def bypassed() -> float:
    return REGISTRY.get_sample_value("chat_control_bypassed_total", {"control": "limits"}) or 0


async def becomes_ready(served: Served) -> None:
    async def ready() -> bool:
        return (await served.client.get("/readyz")).status_code == 200

    await eventually_async(ready, within=10)


@pytest.mark.parametrize("way", [*WAYS, "hashes"])
@pytest.mark.parametrize(
    "bounds", [{}, {"limit_sends": "100/minute"}, {"budget_tokens_per_day": 1_000_000}], ids=str
)
async def test_a_store_that_refuses_writes_refuses_sends_before_anybody_is_paid_and_heals_by_itself(
    store: Store, double_server: tuple[Double, str], double: Double, way: str, bounds: dict[str, Any]
) -> None:
    reason = "forbidden" if way == "hashes" else way
    async with serving(store, double_server[1], **bounds) as served:
        first = await ask(served, session_id="s")
        assert first.text == expected_text(3, 0)
        turn = f"/v1/sessions/s/turns/{first.headers['x-turn-id']}"
        history = (await served.client.get("/v1/sessions/s/messages")).json()
        listed = (await served.client.get("/v1/sessions")).json()
        events = (await served.client.get(f"{turn}/events")).text.partition("\n")[2]  # behind the pause
        double.calls.clear()

        {**WAYS, "hashes": Store.forbid_hashes}[way](store)
        for session in ({"session_id": "s"}, {"session_id": "new"}, {}):
            await refused(served, **session)
        assert len(list(double.calls)) == 0

        async def told() -> bool:
            unready = await served.client.get("/readyz")
            return (unready.status_code, unready.json()["checks"]["store"]) == (
                503,
                f"refuses writes: {reason}",
            )

        await eventually_async(told)
        assert gauge(reason) == 1
        health = await served.client.get("/health")
        assert (health.status_code, health.json()["checks"]["store"]) == (200, f"refuses writes: {reason}")
        # What is only read goes on.
        for _ in range(5):
            assert (await served.client.get("/v1/sessions/s/messages")).json() == history
            assert (await served.client.get("/v1/sessions")).json() == listed
            again = (await served.client.get(f"{turn}/events")).text
            assert again.partition("\n")[2] == events

        store.heal()
        answer = await ask(served, session_id="s")
        assert answer.text == expected_text(3, 0)
        await becomes_ready(served)
        assert gauge(reason) == 0
        assert len(list(double.calls)) == 1


@pytest.mark.parametrize("window", ["fixed", "moving"])
async def test_the_limit_of_sends_does_not_fall_open_and_that_of_reads_is_kept_by_each_worker(
    store: Store, double_server: tuple[Double, str], double: Double, window: str
) -> None:
    async with serving(
        store, double_server[1], limit_sends="2/minute", limit_reads="4/minute", limit_window=window
    ) as served:
        await ask(served, session_id="s")
        before = bypassed()
        store.fill()
        for session in ({"session_id": "s"}, {}, {"session_id": "s"}, {}):
            await refused(served, **session)
        assert bypassed() == before
        reads = [(await served.client.get("/v1/sessions/s/messages")).status_code for _ in range(6)]
        assert reads == [200] * 4 + [429] * 2


async def test_a_limit_that_is_asked_by_itself_refuses_too(
    store: Store, double_server: tuple[Double, str], double: Double
) -> None:
    """Where a replica has as many turns as it takes, the limit is asked before the send waits."""
    async with serving(store, double_server[1], limit_sends="9/minute", max_running_turns=1) as served:
        running = asyncio.create_task(ask(served, "[[tokens=400 rate=100]]", session_id="s"))
        engine = served.app.state.edge.engine
        await eventually_async(lambda: len(engine.running) == 1)
        store.fill()
        before = bypassed()
        await refused(served)
        assert bypassed() == before
        store.heal()
        assert (await running).text == expected_text(400, 0)


async def test_with_keys_a_full_store_refuses_at_once_and_nobody_is_paid(
    store: Store, double_server: tuple[Double, str], double: Double
) -> None:
    """Scripts of limits, budgets and places begin with what Redis lets pass when it is full."""
    async with serving(store, double_server[1], auth="keys", budget_tokens_per_day=10**6) as served:
        headers = [bearer(await make_key(served, name)) for name in ("known", "new to the worker")]
        first = await served.client.post("/chat", json={"user_query": "[[tokens=3]]"}, headers=headers[0])
        assert first.status_code == 200
        double.calls.clear()
        store.fill()
        for session in ({"session_id": "s"}, {}, {"session_id": "s"}):
            for given in headers:
                begin = time.monotonic()
                answer = await served.client.post(
                    "/chat", json={"user_query": "[[tokens=3]]", **session}, headers=given
                )
                assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
                assert time.monotonic() - begin < 3
        await eventually_async(lambda: gauge("full") == 1)
        assert (await served.client.get("/readyz")).status_code == 503
        assert len(list(double.calls)) == 0
        store.heal()
        await becomes_ready(served)
        again = await served.client.post("/chat", json={"user_query": "[[tokens=3]]"}, headers=headers[1])
        assert again.status_code == 200


@pytest.mark.parametrize("way", WAYS)
async def test_a_begin_whose_first_append_is_refused_is_503_and_not_paid(
    store: Store, double_server: tuple[Double, str], double: Double, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    async with serving(store, double_server[1]) as served:
        contexts = served.app.state.edge.engine.contexts
        build, refusing = contexts.build, [WAYS[way]]

        async def build_then_refuse(*arguments: Any) -> Any:
            found = await build(*arguments)
            if refusing:  # the turn has begun, its provider is not called yet
                refusing.pop()(store)
            return found

        monkeypatch.setattr(contexts, "build", build_then_refuse)
        await refused(served, session_id="s")
        assert len(list(double.calls)) == 0
        store.heal()

        async def free() -> bool:
            return bool((await ask(served, session_id="s")).status_code == 200)

        await eventually_async(free)
        turns = (await served.client.get("/v1/sessions/s")).json()["turns"]
        assert turns == 2
        assert len(list(double.calls)) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_running_turn_holds_what_it_has_and_goes_on_when_writes_work_again(
    store: Store, double_server: tuple[Double, str], double: Double, way: str
) -> None:
    async with serving(store, double_server[1]) as served:
        asking = asyncio.create_task(ask(served, "[[tokens=200 rate=100]]", session_id="s"))
        await eventually_async(store.writes)
        held = REGISTRY.get_sample_value("chat_store_holds_total") or 0
        WAYS[way](store)
        await eventually_async(lambda: (REGISTRY.get_sample_value("chat_store_holds_total") or 0) > held)
        store.heal()
        assert (await asking).text == expected_text(200, 0)
        assert len(list(double.calls)) == 1


async def test_an_answer_that_comes_to_its_end_while_the_store_is_full_is_whole_and_paid_once(
    store: Store, double_server: tuple[Double, str], double: Double
) -> None:
    """Its deltas are held; the seal that ends it has them all, and may be written."""
    async with serving(store, double_server[1], budget_tokens_per_day=1_000_000) as served:
        asking = asyncio.create_task(ask(served, "[[tokens=200 rate=100]]", session_id="s"))
        await eventually_async(store.writes)
        store.fill()
        assert (await asking).text == expected_text(200, 0)
        _, answer = (await served.client.get("/v1/sessions/s/messages")).json()["data"]
        assert (answer["content"], answer["state"]) == (expected_text(200, 0), "completed")
        await refused(served, session_id="s")
        assert len(list(double.calls)) == 1

        async def booked() -> bool:
            usage = (await served.client.get("/v1/usage")).json()["data"]
            return bool(usage and usage[0]["completion_tokens"] == 200)

        await eventually_async(booked)


async def test_a_running_answer_is_stopped_while_the_store_is_full(
    store: Store, double_server: tuple[Double, str], double: Double
) -> None:
    async with serving(store, double_server[1]) as served:
        asking = asyncio.create_task(ask(served, "[[tokens=900 rate=50]]", session_id="s"))
        await eventually_async(store.writes)
        turn = (await served.client.get("/v1/sessions/s")).json()["active_turn"]
        store.fill()
        stopped = await served.client.post(f"/v1/sessions/s/turns/{turn}/stop")
        assert (stopped.status_code, stopped.json()["state"]) == (200, "stopped")
        assert (await asking).status_code == 200


async def test_readers_of_a_running_turn_are_told_when_the_hold_is_over_and_the_turn_is_taken_up_later(
    store: Store, double_server: tuple[Double, str], double: Double
) -> None:
    settings = {"store_hold_seconds": 1, "lease_seconds": 1, "heartbeat_seconds": 1}
    async with (
        serving(store, double_server[1], **settings) as served,
        serving(store, double_server[1], **settings) as other,
    ):
        asking = asyncio.create_task(ask(served, "[[tokens=300 rate=50]]", session_id="s"))
        await eventually_async(store.writes)
        turn = (await served.client.get("/v1/sessions/s")).json()["active_turn"]
        path = f"/v1/sessions/s/turns/{turn}"
        elsewhere = asyncio.create_task(other.client.get(f"{path}/events"))
        await eventually_async(lambda: any(tail.readers for tail in other.app.state.edge.engine.tails.all()))
        store.lose_replicas()
        with pytest.raises(httpx.RemoteProtocolError):
            await asyncio.wait_for(asking, 20)
        with pytest.raises(httpx.RemoteProtocolError):  # no clean end: the turn has none yet
            await asyncio.wait_for(elsewhere, 20)
        store.heal()

        async def whole() -> bool:
            messages = (await other.client.get("/v1/sessions/s/messages")).json()["data"]
            return len(messages) == 2 and messages[1]["content"] == expected_text(300, 0)

        await eventually_async(whole, within=20)


async def test_a_running_turn_that_a_full_store_ends_has_failed_for_good(
    store: Store, double_server: tuple[Double, str], double: Double
) -> None:
    """Its end can be written where its deltas cannot: all are told, and nobody pays for it again."""
    settings = {"store_hold_seconds": 1, "lease_seconds": 1, "heartbeat_seconds": 1}
    async with serving(store, double_server[1], **settings) as served:
        asking = asyncio.create_task(ask(served, "[[tokens=300 rate=50]]", session_id="s"))
        await eventually_async(store.writes)
        turn = (await served.client.get("/v1/sessions/s")).json()["active_turn"]
        store.fill()
        with pytest.raises(httpx.RemoteProtocolError):
            await asyncio.wait_for(asking, 20)
        found = (await served.client.get(f"/v1/sessions/s/turns/{turn}")).json()
        assert (found["state"], found["error"]["code"]) == ("failed", "store_unavailable")
        store.heal()
        assert (await ask(served, session_id="s")).status_code == 200
        assert len(list(double.calls)) == 2


async def test_what_frees_memory_works_while_the_store_is_full(
    store: Store, double_server: tuple[Double, str], double: Double
) -> None:
    async with serving(store, double_server[1]) as served:
        await ask(served, session_id="s")
        store.fill()
        assert (await served.client.delete("/v1/sessions/s")).status_code == 204
        assert (await served.client.get("/v1/sessions/s")).status_code == 404
