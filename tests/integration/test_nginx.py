"""deploy/nginx: what the balancer passes on, what it repeats, and what it never does.

The replicas are scripts here, so that each can die at the moment that matters; nginx with real
replicas is in tests/fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.support.needed import program
from tests.support.nginx import Nginx

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
DRAINING = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 8\r\n\r\ndraining"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

Act = Callable[["Call", asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Call:
    line: str
    headers: dict[str, str]
    body: bytes


async def answers(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)


async def drains(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(DRAINING)


async def dies(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def dies_in_the_middle(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM + b"5\r\nhello\r\n")
    await writer.drain()
    await asyncio.sleep(0.1)  # the part has to be on its way before the end is
    writer.transport.abort()


@dataclass
class FakeReplica:
    """An HTTP server that notes each call and then does as `act` says; probes are answered."""

    act: Act = answers
    calls: list[Call] = field(default_factory=list)
    port: int = 0
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if " /livez " in head[0]:
                    writer.write(OK)
                    continue
                call = Call(head[0], headers, body)
                self.calls.append(call)
                await self.act(call, writer)


@pytest.fixture
async def replicas() -> AsyncIterator[list[FakeReplica]]:
    made = [FakeReplica(), FakeReplica()]
    async with contextlib.AsyncExitStack() as stack:
        for replica in made:
            server = await stack.enter_async_context(
                await asyncio.start_server(replica.serve, "127.0.0.1", 0)
            )
            replica.port = server.sockets[0].getsockname()[1]
        yield made


@pytest.fixture
async def nginx(replicas: list[FakeReplica], tmp_path: Path) -> AsyncIterator[Nginx]:
    program("nginx")
    running = await asyncio.to_thread(Nginx, tmp_path / "nginx", [replica.port for replica in replicas])
    yield running
    await asyncio.to_thread(running.close)


@pytest.fixture
async def http(nginx: Nginx) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=nginx.url, timeout=20) as client:
        yield client


def calls(replicas: list[FakeReplica]) -> list[Call]:
    return [call for replica in replicas for call in replica.calls]


async def test_a_stream_is_passed_on_piece_by_piece(
    http: httpx.AsyncClient, replicas: list[FakeReplica]
) -> None:
    go_on = asyncio.Event()

    async def streams(call: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + b"3\r\none\r\n")
        await writer.drain()
        await go_on.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    for replica in replicas:
        replica.act = streams
    async with http.stream("GET", "/v1/sessions/s/turns/t/events") as answer:
        pieces = answer.aiter_raw()
        assert await asyncio.wait_for(anext(pieces), 5) == b"one"
        go_on.set()  # not before the first piece is here: it was not kept back
        assert await asyncio.wait_for(anext(pieces), 5) == b"two"


async def test_a_send_that_meets_a_dying_replica_is_made_at_the_next_one_with_the_same_key(
    http: httpx.AsyncClient, replicas: list[FakeReplica]
) -> None:
    replicas[0].act = dies
    body = b'{"user_query": "' + b"x" * 300_000 + b'"}'
    for _ in range(4):
        answer = await http.post("/chat", content=body)
        assert answer.status_code == 200
    assert len(replicas[0].calls) >= 1
    for call in replicas[0].calls:
        [again] = [
            other
            for other in replicas[1].calls
            if other.headers["idempotency-key"] == call.headers["idempotency-key"]
        ]
        assert again.body == call.body == body
        assert again.headers["x-request-id"] == call.headers["x-request-id"]
    assert len({call.headers["idempotency-key"] for call in replicas[1].calls}) == 4


async def test_a_replica_that_drains_is_passed_over(
    http: httpx.AsyncClient, replicas: list[FakeReplica]
) -> None:
    replicas[0].act = drains
    assert [(await http.post("/chat", json={})).text for _ in range(4)] == ["ok"] * 4


async def test_when_all_drain_their_answer_is_the_answer(
    http: httpx.AsyncClient, replicas: list[FakeReplica]
) -> None:
    for replica in replicas:
        replica.act = drains
    answer = await http.post("/chat", json={})
    assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (503, "draining", "1")


async def test_nothing_is_repeated_after_the_first_byte(
    http: httpx.AsyncClient, replicas: list[FakeReplica]
) -> None:
    for replica in replicas:
        replica.act = dies_in_the_middle
    received: list[bytes] = []

    async def read() -> None:
        async with http.stream("POST", "/chat", json={}) as answer:
            async for piece in answer.aiter_raw():
                received.append(piece)

    with pytest.raises(httpx.RemoteProtocolError):
        await read()
    assert received == [b"hello"]
    assert len(calls(replicas)) == 1


@pytest.mark.parametrize(
    ("method", "path", "keyed"),
    [
        ("POST", "/chat", True),
        ("POST", "/chat-with-history", True),
        ("POST", "/v1/sessions/a:b.c/turns", True),
        ("POST", "/v1/chat/completions", True),
        ("POST", "/openai/v1/chat/completions", True),
        ("POST", "/v1/responses", True),
        ("POST", "/api/chat", False),
        ("POST", "/v1/sessions/s/turns/t/stop", False),
        ("GET", "/v1/sessions/s/turns", False),
        ("POST", "/v1/sessions", False),
    ],
)
async def test_sends_get_a_key_and_nothing_else_does(
    http: httpx.AsyncClient, replicas: list[FakeReplica], method: str, path: str, keyed: bool
) -> None:
    await http.request(method, path)
    [call] = calls(replicas)
    assert bool(re.fullmatch("[0-9a-f]{32}", call.headers.get("idempotency-key", ""))) is keyed
    assert re.fullmatch("[0-9a-f]{32}", call.headers["x-fallback-idempotency-key"])
    of_client = {"Idempotency-Key": "of the client", "X-Fallback-Idempotency-Key": "of the client"}
    await http.request(method, path, headers=of_client)
    fallbacks = {other.headers["x-fallback-idempotency-key"] for other in calls(replicas)}
    assert len(fallbacks) == 2
    assert "of the client" not in fallbacks
    keys = [other.headers.get("idempotency-key") for other in calls(replicas) if other is not call]
    assert keys == ["of the client"]


async def test_what_the_service_has_to_know_of_the_client_is_passed_on(
    http: httpx.AsyncClient, replicas: list[FakeReplica], nginx: Nginx
) -> None:
    head = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Request-Id": "mine.1",
        "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
    }
    await http.get("/v1/models", headers=head)
    [call] = calls(replicas)
    assert call.headers["x-forwarded-for"] == "203.0.113.9, 127.0.0.1"
    assert call.headers["x-forwarded-proto"] == "http"
    assert call.headers["host"] == f"127.0.0.1:{nginx.port}"
    assert (call.headers["x-request-id"], call.headers["traceparent"]) == ("mine.1", head["traceparent"])
    assert call.line == "GET /v1/models HTTP/1.1"


async def test_a_client_of_http_1_0_without_a_host_reaches_the_replicas(
    replicas: list[FakeReplica], nginx: Nginx
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", nginx.port)
    writer.write(b"GET /v1/models HTTP/1.0\r\n\r\n")
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    [call] = calls(replicas)
    assert call.headers["host"] == "localhost"


@pytest.mark.parametrize("given", ["has space", "a" * 129, "semi;colon"])
async def test_a_request_id_that_the_service_would_not_keep_is_replaced(
    http: httpx.AsyncClient, replicas: list[FakeReplica], given: str
) -> None:
    await http.get("/v1/models", headers={"X-Request-Id": given})
    [call] = calls(replicas)
    assert re.fullmatch("[0-9a-f]{32}", call.headers["x-request-id"])


async def test_connections_to_the_replicas_are_kept(
    http: httpx.AsyncClient, replicas: list[FakeReplica]
) -> None:
    before = sum(replica.connections for replica in replicas)
    for _ in range(20):
        await http.get("/v1/models")
    assert len(calls(replicas)) == 20
    assert {call.headers.get("connection") for call in calls(replicas)} == {None}
    # At most one of each of nginx's worker processes (one per core) to each replica.
    assert sum(replica.connections for replica in replicas) - before <= 2 * (os.cpu_count() or 1)


async def test_a_body_that_is_too_large_is_refused_in_the_services_shape(
    http: httpx.AsyncClient, replicas: list[FakeReplica]
) -> None:
    answer = await http.post("/chat", content=b"x" * 8_400_000)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert answer.headers["content-type"] == "application/problem+json"
    assert calls(replicas) == []


async def test_without_a_replica_the_answer_is_503_soon_and_in_the_services_shape(
    http: httpx.AsyncClient, replicas: list[FakeReplica]
) -> None:
    for replica in replicas:
        replica.act = dies
    begin = time.monotonic()
    answer = await http.post("/chat", json={})
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    assert time.monotonic() - begin < 5
    assert [len(replica.calls) for replica in replicas] == [1, 1]


async def test_the_metrics_are_not_for_the_outside(
    http: httpx.AsyncClient, replicas: list[FakeReplica]
) -> None:
    assert (await http.get("/metrics")).status_code == 404
    assert calls(replicas) == []
