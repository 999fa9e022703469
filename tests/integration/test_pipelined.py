"""Requests that were sent behind one that is being answered, by a client that leaves."""

from __future__ import annotations

import asyncio

import orjson
import redis
from prometheus_client import REGISTRY

from tests.conftest import Start
from tests.integration.test_connections import END, connected
from tests.support.service import Served
from tests.support.waiting import eventually_async


def post(path: str, body: dict[str, str]) -> bytes:
    data = orjson.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(data)}\r\n\r\n".encode() + data


async def begun(served: Served, requests: bytes) -> None:
    """Send them, take the first piece of the first answer, and leave."""
    async with connected(served) as (reader, writer):
        writer.write(requests)
        async with asyncio.timeout(10):
            while b"\r\n\r\n" not in await reader.read(65_536):
                pass


async def test_an_answer_whose_client_has_left_is_ended_whatever_was_asked_behind_it(
    start: Start, store: redis.Redis
) -> None:
    """Only the newest request of a connection was told that its client has left."""
    async with start(orphan_seconds=0.3) as served:
        await begun(served, post("/chat", {"user_query": "[[tokens=4000 rate=50]]"}) + END * 3)
        [turn] = store.scan_iter("*:turn:t_*")
        await eventually_async(lambda: store.hget(turn, "state") == "stopped", within=15)


async def test_a_stream_whose_client_has_left_is_held_by_nobody(served: Served) -> None:
    path = "/v1/sessions/s/turns"
    soon = {"Prefer": "respond-async"}
    turn = await served.client.post(path, json={"content": "[[fault=silence]]"}, headers=soon)

    def streams() -> float:
        return REGISTRY.get_sample_value("chat_readers_open", {"dialect": "native"}) or 0

    before = streams()
    events = f"GET {turn.headers['location']}/events HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
    await begun(served, events + END)
    await eventually_async(lambda: streams() == before, within=10)
    await served.client.post(f"{turn.headers['location']}/stop")


async def test_of_very_many_at_once_the_first_are_answered_and_the_last_of_these_says_so(
    served: Served,
) -> None:
    one = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"
    async with connected(served) as (reader, writer):
        writer.write(one * 5_000)
        async with asyncio.timeout(20):
            answered = await reader.read()
    answers = answered.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert len(answers) == 17  # one that was being answered, and 16 that waited
    assert [b"connection: close" in answer for answer in answers] == [False] * 16 + [True]


async def test_a_few_at_once_are_all_answered_in_their_order_and_the_connection_is_kept(
    served: Served,
) -> None:
    await served.client.post("/v1/sessions", json={"id": "s"})
    paths = [path for _ in range(8) for path in ("/livez", "/v1/sessions/s")]
    async with connected(served) as (reader, writer):
        for _ in range(2):
            writer.write(
                b"".join(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode() for path in paths)
            )
            got = b""
            async with asyncio.timeout(20):
                while got.count(b"HTTP/1.1 200 OK") < len(paths) or not got.endswith(b"}"):
                    got += await reader.read(65_536)
            bodies = [answer.partition(b"\r\n\r\n")[2] for answer in got.split(b"HTTP/1.1 200 OK\r\n")[1:]]
            assert [b'"id":"s"' in body for body in bodies] == [False, True] * 8
