"""The webhook: signed, once more after a failure, to public addresses, and no turn waits for it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from service.config.settings import Settings
from service.engine import webhooks
from service.store import webhooks as queue
from service.upstream.webhook import NotTold, tell
from tests.conftest import Start
from tests.double import expected_text
from tests.support.identity import bearer, id_in, make_key
from tests.support.redis import free_port
from tests.support.waiting import eventually_async

KEY = b"a key of thirty-two bytes, no less"[:32]
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"


class Receiver:
    """An HTTP server that notes what it is told; `statuses` are its answers, then 204."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/hook?a=1"
        self.told: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses: list[int] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", self.port):
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        body = await reader.readexactly(int(headers["content-length"]))
        self.told.append((head[0], headers, body))
        status = self.statuses.pop(0) if self.statuses else 204
        writer.write(f"HTTP/1.1 {status} x\r\nLocation: {self.url}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.told]


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def settings(receiver: Receiver, **more: Any) -> dict[str, Any]:
    return {
        "webhook_url": receiver.url,
        "webhook_secret": SECRET,
        "webhook_allow_private": True,
        **more,
    }


async def ask(served: Any, wish: str = "[[tokens=5]] secret words") -> None:
    answer = await served.client.post("/chat", json={"user_query": wish, "session_id": "s"})
    assert answer.status_code in (200, 400), answer.text


async def test_a_turns_end_is_told_with_a_signature_and_without_its_words(
    start: Start, receiver: Receiver
) -> None:
    async with receiver.listening(), start(**settings(receiver)) as served:
        await ask(served)
        await eventually_async(lambda: receiver.told, within=10)
    [(line, headers, body)] = receiver.told
    assert line == "POST /hook?a=1 HTTP/1.1"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 60
    said = json.loads(body)
    assert said["type"] == "turn.completed"
    data = said["data"]
    assert headers["webhook-id"] == data["turn_id"]
    assert (data["session_id"], data["state"], data["finish_reason"]) == ("s", "completed", "stop")
    assert data["usage"]["completion_tokens"] == 5
    assert "text" not in data
    assert b"secret words" not in body


async def test_the_text_is_told_where_that_is_asked_for(start: Start, receiver: Receiver) -> None:
    async with receiver.listening(), start(**settings(receiver, webhook_text=True)) as served:
        await ask(served)
        await eventually_async(lambda: receiver.told, within=10)
    assert receiver.said()[0]["data"]["text"] == expected_text(5, 0)


async def test_failures_are_told_with_their_code(start: Start, receiver: Receiver) -> None:
    async with receiver.listening(), start(**settings(receiver)) as served:
        await ask(served, "[[fault=400]]")
        await eventually_async(lambda: receiver.told, within=10)
    said = receiver.said()[0]
    assert (said["type"], said["data"]["code"]) == ("turn.failed", "upstream_rejected")


@pytest.mark.parametrize("statuses", [[500], [302], [503, 429]])
async def test_what_is_not_answered_well_is_told_again_under_the_same_id(
    start: Start, receiver: Receiver, statuses: list[int], monkeypatch: pytest.MonkeyPatch, store: redis.Redis
) -> None:
    monkeypatch.setattr(webhooks, "PAUSES", (0.1,) * 9)
    receiver.statuses = [*statuses]
    async with receiver.listening(), start(**settings(receiver)) as served:
        await ask(served)
        await eventually_async(lambda: len(receiver.told) > len(statuses), within=20)
        await eventually_async(lambda: not list(store.scan_iter("*:{webhooks}:*")), within=10)
    assert len({headers["webhook-id"] for _, headers, _ in receiver.told}) == 1
    assert len({body for _, _, body in receiver.told}) == 1


@pytest.mark.parametrize(("status", "pauses"), [(500, ()), (410, (0.1,) * 9)], ids=["silent", "says so"])
async def test_a_receiver_that_is_gone_for_good_is_not_told_again(
    start: Start,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    store: redis.Redis,
    status: int,
    pauses: tuple[float, ...],
) -> None:
    monkeypatch.setattr(webhooks, "PAUSES", pauses)
    receiver.statuses = [status]
    async with receiver.listening(), start(**settings(receiver)) as served:
        await ask(served)
        await eventually_async(lambda: receiver.told, within=10)
        await eventually_async(lambda: not list(store.scan_iter("*:{webhooks}:*")), within=10)
    assert len(receiver.told) == 1


async def test_a_dead_receiver_costs_no_turn_anything_and_is_told_when_it_is_back(
    start: Start, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "PAUSES", (0.2,) * 99)
    async with start(**settings(receiver)) as served:
        for _ in range(3):
            await ask(served)
        async with receiver.listening():
            await eventually_async(lambda: len(receiver.told) == 3, within=20)


async def test_what_a_dead_worker_had_taken_is_given_to_another(
    start: Start, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "_HOLD_MS", 300)
    async with start() as served:  # it tells nobody of anything
        waiting = served.app.state.edge.engine.store.webhooks
        assert await waiting.put("t_1", b"{}")
        assert await waiting.put("t_1", b"{}"), "known, and once"
        [taken] = await waiting.take(8)
        assert (taken.id, taken.tries) == ("t_1", 1)
        assert await waiting.take(8) == []
        async with receiver.listening(), start(**settings(receiver)):
            await eventually_async(lambda: receiver.told, within=10)
    assert receiver.told[0][1]["webhook-id"] == "t_1"


async def test_the_queue_is_bounded(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MOST", 2)
    async with start() as served:
        waiting = served.app.state.edge.engine.store.webhooks
        assert [await waiting.put(f"t_{n}", b"{}") for n in range(4)] == [True, True, False, False]


async def test_the_queue_is_bounded_in_bytes_and_what_was_told_makes_room(
    start: Start, monkeypatch: pytest.MonkeyPatch, store: redis.Redis
) -> None:
    monkeypatch.setattr(queue, "MOST_BYTES", 100)
    async with start() as served:
        waiting = served.app.state.edge.engine.store.webhooks
        assert [await waiting.put(f"t_{n}", b"x" * 40) for n in range(3)] == [True, True, False]
        assert await waiting.put("t_0", b"x" * 40)  # which waits already
        for _ in range(2):  # a worker that is told twice that it is done with
            await waiting.tried("t_0", "", None)
        assert [await waiting.put(f"t_{n}", b"x" * 40) for n in (3, 4)] == [True, False]
        await waiting.tried("t_1", "", None)
        await waiting.tried("t_3", "", None)
        assert not list(store.scan_iter("*:{webhooks}:*"))


async def test_without_a_receiver_nothing_is_kept(start: Start, store: redis.Redis) -> None:
    async with start() as served:
        await ask(served)
        assert not list(store.scan_iter("*:{webhooks}:*"))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fd00::1",
        "fe80::1%1",
        "::ffff:127.0.0.1",
    ],
)
async def test_no_private_address_is_called(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*arguments: object, **options: object) -> list[Any]:
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("1.1.1.1", 443)),  # one of its addresses is public
            (kind, socket.SOCK_STREAM, 6, "", (address, 443)),
        ]

    async def connect(*arguments: object, **options: object) -> None:
        raise AssertionError("it was called")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    monkeypatch.setattr(asyncio, "open_connection", connect)
    with pytest.raises(NotTold, match="not public"):
        await tell("https://receiver.example/hook", KEY, "t_1", b"{}", private=False)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"webhook_url": "http://example.com"}, "https://"),
        ({"webhook_url": "https://example.com", "webhook_secret": None}, "CHAT_WEBHOOK_SECRET"),
        ({"webhook_url": "https://example.com", "webhook_secret": "whsec_c2hvcnQ="}, "24 to 64 bytes"),
        ({"webhook_url": "https://a:b@example.com"}, "no password"),
    ],
)
def test_wrong_settings_stop_the_start(given: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Settings(_env_file=None, **{"webhook_secret": SECRET, **given})


async def test_an_erased_callers_words_are_not_told_any_more(
    start: Start, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, store: redis.Redis
) -> None:
    monkeypatch.setattr(webhooks, "PAUSES", (3.0,) * 9)
    receiver.statuses = [500] * 4  # of each of two turns, at both its receivers
    more = {"webhook_text": True, "auth": "keys"}
    async with receiver.listening(), start(**settings(receiver, **more)) as served:
        admin = bearer(await make_key(served, scopes=("admin",)))
        keys = [await make_key(served), await make_key(served)]
        for key in keys:
            hook = {"webhook_url": receiver.url}
            await served.client.patch(f"/v1/keys/{id_in(key)}", headers=admin, json=hook)
            told = {"user_query": "[[say=secret words]]", "session_id": "s"}
            assert (await served.client.post("/chat", headers=bearer(key), json=told)).status_code == 200
        await eventually_async(lambda: len(receiver.told) == 4, within=10)
        size = int(store.hget("chat:{webhooks}:said", "#") or 0)
        assert (await served.client.delete("/v1/sessions", headers=bearer(keys[0]))).json()["complete"]
        assert int(store.hget("chat:{webhooks}:said", "#") or 0) == size - len(',"text":"secret words"')
        await eventually_async(lambda: len(receiver.told) == 8, within=15)
    words = [(said["data"]["principal"], said["data"].get("text")) for said in receiver.said()[4:]]
    mine, others = (f"key.{id_in(key)}" for key in keys)
    assert sorted(words, key=str) == sorted([(mine, None), (others, "secret words")] * 2, key=str)
