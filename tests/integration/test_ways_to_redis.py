"""The ways to a store that CHAT_REDIS_URL names: each carries a session through all that scripts do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.double import Double, expected_text
from tests.support import branches
from tests.support.cluster import Cluster
from tests.support.pictures import data_url, png
from tests.support.redis import RedisServer
from tests.support.sentinels import Sentinels
from tests.support.service import Served, serve
from tests.support.sse import Frame, check_gapless, frames, text_of
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module", params=["memory", "single", "socket", "sentinel", "cluster"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp(request.param)
    if request.param == "memory":
        yield ""
        return
    store: RedisServer | Sentinels | Cluster
    if request.param == "sentinel":
        store = Sentinels(folder)
    elif request.param == "cluster":
        store = Cluster(folder)
    else:
        store = RedisServer(folder, "--unixsocket", str(folder / "s"))
    yield f"unix://{folder}/s" if request.param == "socket" else store.url
    store.close()


async def begin(served: Served, **body: object) -> httpx.Response:
    answer = await served.client.post(
        "/v1/sessions/s/turns", json=body, headers={"Prefer": "respond-async", "Idempotency-Key": str(body)}
    )
    assert answer.status_code == 202, answer.text
    return answer


async def read(served: Served, turn: httpx.Response, after: int = 0) -> list[Frame]:
    path = f"{turn.headers['location']}/events?after={after}"
    async with served.client.stream("GET", path) as answer:
        events = [frame async for frame in frames(answer)]
    check_gapless(events, after + 1)
    return events


async def turns_used(served: Served) -> int:
    """Of whoever asks without a name, by this test and by those before it on the same store."""
    return sum(day["turns"] for day in (await served.client.get("/v1/usage")).json()["data"])


def test_the_server_is_the_one_that_was_asked_for(store: redis.Redis) -> None:
    found: Any = store.info("server")
    named = os.environ.get("TESTS_REDIS")
    assert found.get("server_name", "redis") == ("redis" if named == "redis-server" else "valkey")


async def test_turns_run_resume_queue_stop_and_are_taken_over(
    url: str, double: Double, double_server: tuple[Double, str]
) -> None:
    settings = {"lease_seconds": 0.5, "limit_sends": "100/minute", "budget_tokens_per_day": 10_000_000}
    async with (
        serve(url, double_server[1], **settings) as here,
        serve(url, double_server[1], **settings) as there,
    ):
        before = await turns_used(there)
        first = await begin(here, content="[[tokens=40 rate=100]]")
        second = await begin(there, content="[[tokens=5 seed=1]]", on_busy="queue")
        assert (await begin(there, content="[[tokens=40 rate=100]]")).json()["id"] == first.json()["id"]
        for served in (here, there):
            for turn, text in ((first, expected_text(40, 0)), (second, expected_text(5, 1))):
                events = await read(served, turn)
                assert text_of(events) == text
                assert await read(served, turn, after=3) == events[3:]
        lost = await begin(here, content="[[tokens=60 rate=60 vary]]")
        lives = here.app.state.edge.engine.running._lives
        await eventually_async(lambda: lives[lost.json()["id"]].acknowledged > 5)
        here.app.state.edge.engine.drain(refuse=False)  # it shall not take it over itself
        lives[lost.json()["id"]].interrupt("lost host")
        events = await read(there, lost)
        assert [event.event for event in events].count("turn.restarted") == 1
        assert text_of(events) == expected_text(60, 1)
        last = await begin(there, content="[[tokens=900 rate=50]]")
        stopped = (await here.client.post(last.headers["location"] + "/stop")).json()
        assert stopped["state"] == "stopped"
        sessions = (await here.client.get("/v1/sessions")).json()["data"]
        assert [(session["id"], session["turns"]) for session in sessions] == [("s", 4)]
        assert (await there.client.delete("/v1/sessions/s")).status_code == 204
        assert (await here.client.get("/v1/sessions")).json() == {"data": [], "next": None}
        assert await turns_used(there) - before == 4
        for served in (here, there):
            assert (await served.client.get("/readyz")).status_code == 200


async def test_histories_are_forked_put_back_pictured_exported_and_erased(
    url: str, double_server: tuple[Double, str]
) -> None:
    async with serve(url, double_server[1]) as served:
        for session in ("a", "b", "c"):
            await branches.say(served, "[[say=x]]", session)
        await served.client.post("/chat", json={"user_query": "[[say=x]]"})
        await branches.say(served, "", "a", regenerate=True)
        [(version, _)] = (await branches.versions(served, "a"))["x"]
        assert (await branches.choose(served, version, "a")).status_code == 200
        picture = {"type": "image", "url": data_url(png())}
        seen = {"content": [{"type": "text", "text": "[[say=red]]"}, picture], "model": "qwen/qwen3.8-27b"}
        answer = await served.client.post("/v1/sessions/p/turns", json=seen)
        assert answer.status_code == 200, answer.text
        question, told = await branches.messages(served, "p")
        copy = (await branches.fork(served, told["id"], "p")).json()["id"]
        ref = question["parts"][1]["ref"]
        assert (await served.client.get(f"/v1/sessions/{copy}/images/{ref}")).content == png()
        exported = (await served.client.get("/v1/export")).json()["sessions"]
        assert len({one["session"]["id"] for one in exported}) == len(exported) >= 6
        erased = (await served.client.delete("/v1/sessions")).json()
        assert (erased["removed"]["sessions"], erased["complete"]) == (len(exported), True)
        assert (await served.client.get("/v1/export")).json()["sessions"] == []
