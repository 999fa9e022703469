"""Request limits: charged once, told in headers, per caller, exact, and alive without Redis."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
import redis
from prometheus_client import REGISTRY

from tests.conftest import Start
from tests.support.identity import bearer, make_key
from tests.support.lag import watching
from tests.support.redis import RedisServer
from tests.support.service import Served
from tests.support.waiting import eventually_async

WINDOWS = pytest.mark.parametrize("window", ["fixed", "moving"])


async def send(served: Served, headers: dict[str, str], **body: Any) -> httpx.Response:
    return await served.client.post("/chat", json={"user_query": "[[tokens=2]]", **body}, headers=headers)


def left(answer: httpx.Response) -> int:
    return int(answer.headers["ratelimit-remaining"])


@WINDOWS
async def test_the_limit_is_told_with_every_send_and_refuses_what_is_beyond(
    start: Start, window: str
) -> None:
    async with start(auth="keys", limit_sends="3/minute", limit_window=window) as served:
        key = bearer(await make_key(served))
        for remaining in (2, 1, 0):
            answer = await send(served, key)
            assert answer.status_code == 200
            assert answer.headers["ratelimit-limit"] == answer.headers["x-ratelimit-limit"] == "3"
            assert left(answer) == int(answer.headers["x-ratelimit-remaining"]) == remaining
            assert 58 <= int(answer.headers["ratelimit-reset"]) <= 60
            assert abs(int(answer.headers["x-ratelimit-reset"]) - time.time() - 60) < 3
            assert "retry-after" not in answer.headers
        refused = await send(served, key)
        assert refused.status_code == 429
        wait = int(refused.headers["retry-after"])
        assert 58 <= wait <= 60
        assert left(refused) == 0
        assert refused.json() == {
            "type": "urn:chat:error:rate_limited",
            "title": "Too many requests",
            "status": 429,
            "detail": f"The limit of 3 per 1 minute is reached; try again in {wait} s.",
            "code": "rate_limited",
        }


@pytest.mark.parametrize(("limit", "told"), [("1/minute", None), ("1/hour", "false")])
async def test_sdks_are_told_not_to_repeat_after_more_than_a_minute(
    start: Start, limit: str, told: str | None
) -> None:
    async with start(auth="keys", limit_sends=limit) as served:
        key = bearer(await make_key(served))
        await send(served, key)
        refused = await send(served, key)
        assert (refused.status_code, refused.headers.get("x-should-retry")) == (429, told)


@WINDOWS
async def test_a_retry_after_is_honest(start: Start, window: str) -> None:
    async with start(auth="keys", limit_sends="2/2 seconds", limit_window=window) as served:
        key = bearer(await make_key(served))
        assert [(await send(served, key)).status_code for _ in range(2)] == [200, 200]
        refused = await send(served, key)
        assert refused.status_code == 429
        await asyncio.sleep(int(refused.headers["retry-after"]))  # what was told is what is to be true
        assert (await send(served, key)).status_code == 200


async def test_each_dialect_is_refused_in_its_own_envelope(start: Start) -> None:
    async with start(auth="keys", limit_sends="0/minute") as served:
        key = bearer(await make_key(served))
        message = {"role": "user", "content": "hi"}
        native = await served.client.post("/v1/sessions/s/turns", json={"content": "hi"}, headers=key)
        openai = await served.client.post(
            "/v1/chat/completions", json={"model": "openai/gpt-oss-120b", "messages": [message]}, headers=key
        )
        aisdk = await served.client.post(
            "/api/chat",
            headers=key,
            json={
                "id": "c",
                "trigger": "submit-message",
                "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}],
            },
        )
        for answer in (native, openai, aisdk):
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "60"), answer.text
            assert answer.headers["ratelimit-limit"] == "0"
        sentence = "The limit of 0 per 1 minute is reached; try again in 60 s."
        assert native.headers["content-type"] == "application/problem+json"
        assert native.json()["detail"] == sentence
        assert openai.json()["error"]["message"] == sentence
        assert openai.json()["error"]["type"] == "rate_limit_error"
        assert aisdk.text == sentence


async def test_sends_and_reads_are_counted_apart(start: Start) -> None:
    async with start(auth="keys", limit_sends="2/minute", limit_reads="3/minute") as served:
        key = bearer(await make_key(served))
        for _ in range(3):
            assert (await served.client.get("/v1/sessions", headers=key)).status_code == 200
        refused = await served.client.get("/v1/sessions", headers=key)
        assert (refused.status_code, refused.headers["ratelimit-limit"]) == (429, "3")
        assert [(await send(served, key)).status_code for _ in range(3)] == [200, 200, 429]


async def test_streams_carry_the_headers_too(start: Start) -> None:
    async with start(auth="keys") as served:
        key = bearer(await make_key(served))
        async with served.client.stream(
            "POST", "/v1/sessions/s/turns", json={"content": "[[tokens=2]]"}, headers=key
        ) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert (answer.headers["ratelimit-limit"], left(answer)) == ("100", 99)
            path = answer.headers["location"]
        async with served.client.stream("GET", path, headers=key) as answer:
            assert (answer.headers["ratelimit-limit"], left(answer)) == ("1200", 1199)


@WINDOWS
async def test_callers_do_not_share_limits_and_exactly_the_limit_passes(start: Start, window: str) -> None:
    async with (
        start(auth="keys", limit_reads="20/minute", limit_window=window) as one,
        start(auth="keys", limit_reads="20/minute", limit_window=window) as two,
    ):
        keys = [bearer(await make_key(one)) for _ in range(2)]

        async def ask(number: int) -> tuple[int, int]:
            caller, served = number % 2, (one, two)[number // 2 % 2]
            answer = await served.client.get("/v1/sessions", headers=keys[caller])
            return caller, answer.status_code

        answers = await asyncio.gather(*(ask(number) for number in range(160)))
        for caller in (0, 1):
            assert [status for who, status in answers if who == caller].count(200) == 20
            assert [status for who, status in answers if who == caller].count(429) == 60


@WINDOWS
async def test_an_idempotent_repeat_is_never_charged(start: Start, window: str) -> None:
    async with start(auth="keys", limit_sends="3/minute", limit_window=window) as served:
        key = {**bearer(await make_key(served)), "Idempotency-Key": "k"}
        first = await send(served, key)
        assert (first.status_code, left(first)) == (200, 2)
        for _ in range(5):
            repeat = await send(served, key)
            assert (repeat.status_code, repeat.text) == (200, first.text)
        other = await send(served, {**key, "Idempotency-Key": "k2"})
        assert left(other) == 1


@WINDOWS
@pytest.mark.parametrize("session", ["s", None])
async def test_fifty_repeats_at_once_are_one_charge(start: Start, window: str, session: str | None) -> None:
    async with (
        start(auth="keys", limit_sends="1/minute", limit_window=window) as one,
        start(auth="keys", limit_sends="1/minute", limit_window=window) as two,
    ):
        key = {**bearer(await make_key(one)), "Idempotency-Key": "k"}
        body = {"session_id": session} if session else {}
        answers = await asyncio.gather(*(send((one, two)[i % 2], key, **body) for i in range(50)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.headers["x-turn-id"] for answer in answers}) == 1
        assert (await send(one, {**key, "Idempotency-Key": "k2"})).status_code == 429


async def test_the_same_idempotency_key_in_another_session_is_another_send(start: Start) -> None:
    async with start(auth="keys", limit_sends="1/minute") as served:
        key = {**bearer(await make_key(served)), "Idempotency-Key": "k"}
        assert (await send(served, key, session_id="a")).status_code == 200
        assert (await send(served, key, session_id="b")).status_code == 429


async def test_a_refused_send_begins_nothing_and_is_not_charged(start: Start, store: redis.Redis) -> None:
    async with start(auth="keys", limit_sends="1/5 seconds", limit_window="moving") as served:
        key = bearer(await make_key(served))
        assert (await send(served, key)).status_code == 200
        sessions = len(list(store.scan_iter("*:session")))
        assert [(await send(served, key)).status_code for _ in range(5)] == [429] * 5
        assert len(list(store.scan_iter("*:session"))) == sessions

        async def passes() -> bool:
            return (await send(served, key)).status_code == 200

        await eventually_async(passes, within=7)


async def test_a_key_has_a_limit_of_its_own(start: Start) -> None:
    async with start(auth="keys", limit_sends="5/minute") as served:
        narrow = bearer(await make_key(served, limit_sends="1/minute"))
        wide = bearer(await make_key(served, limit_sends="1000/hour"))
        free = bearer(await make_key(served, limit_sends=""))
        assert [(await send(served, narrow)).status_code for _ in range(2)] == [200, 429]
        assert (await send(served, wide)).headers["ratelimit-limit"] == "1000"
        assert "ratelimit-limit" not in (await send(served, free)).headers


async def test_keys_of_one_owner_count_together(start: Start) -> None:
    async with start(auth="keys", limit_sends="2/minute") as served:
        first, second = [bearer(await make_key(served, owner="team")) for _ in range(2)]
        assert [(await send(served, key)).status_code for key in (first, second, first, second)] == [
            200,
            200,
            429,
            429,
        ]


@WINDOWS
async def test_of_several_windows_all_have_to_pass_and_none_is_charged_for_another(
    start: Start, window: str
) -> None:
    limit = "2/4 seconds;3/minute;50/minute"
    async with start(auth="keys", limit_sends=limit, limit_window=window) as served:
        key = bearer(await make_key(served))
        first, second, refused = [await send(served, key) for _ in range(3)]
        assert (first.headers["ratelimit-limit"], left(first)) == ("2", 1)
        assert (second.headers["ratelimit-limit"], left(second)) == ("2", 0)
        assert (refused.status_code, refused.headers["ratelimit-limit"]) == (429, "2")
        assert int(refused.headers["retry-after"]) <= 4
        third: list[httpx.Response] = []

        async def passes() -> bool:
            third[:] = [await send(served, key)]
            return third[0].status_code == 200

        await eventually_async(passes, within=8)
        assert (third[0].headers["ratelimit-limit"], left(third[0])) == ("3", 0)
        refused = await send(served, key)
        assert (refused.status_code, refused.headers["ratelimit-limit"]) == (429, "3")
        assert int(refused.headers["retry-after"]) > 50


async def test_without_authentication_callers_are_their_addresses(start: Start) -> None:
    async with start(limit_sends="2/minute", trusted_proxies="127.0.0.0/8") as served:
        for address in ("198.51.100.1", "198.51.100.2", "2001:db8::1"):
            headers = {"X-Forwarded-For": f"6.6.6.6, {address}"}
            assert [(await send(served, headers)).status_code for _ in range(3)] == [200, 200, 429]
        neighbour = {"X-Forwarded-For": "2001:db8::2"}
        assert (await send(served, neighbour)).status_code == 429


async def test_an_address_in_a_header_counts_only_from_a_configured_proxy(start: Start) -> None:
    async with start(limit_sends="2/minute") as served:
        statuses = [
            (await send(served, {"X-Forwarded-For": f"198.51.100.{number}"})).status_code
            for number in range(3)
        ]
        assert statuses == [200, 200, 429]


async def test_without_authentication_limits_are_off_unless_set(served: Served) -> None:
    answer = await send(served, {})
    assert (answer.status_code, "ratelimit-limit" in answer.headers) == (200, False)


async def test_rejections_are_counted(start: Start) -> None:
    async with start(auth="keys", limit_sends="0/minute", limit_reads="0/minute") as served:
        key = bearer(await make_key(served))
        before = [_rejections(kind) for kind in ("sends", "reads")]
        await send(served, key)
        await served.client.get("/v1/sessions", headers=key)
        assert [_rejections(kind) for kind in ("sends", "reads")] == [before[0] + 1, before[1] + 1]


@WINDOWS
@pytest.mark.alone
async def test_with_the_store_stalled_each_request_answers_in_its_bound_and_nothing_blocks(
    start: Start, redis_server: RedisServer, window: str
) -> None:
    async with start(
        auth="keys", limit_sends="5/minute", limit_reads="5/minute", limit_window=window
    ) as served:
        key = bearer(await make_key(served))
        assert (await served.client.get("/v1/sessions", headers=key)).status_code == 200
        bypassed = _bypassed()
        redis_server.stall()
        try:
            async with watching() as lag:
                answers = await asyncio.gather(
                    *(send(served, key) for _ in range(20)),
                    *(served.client.get("/v1/sessions/s", headers=key) for _ in range(20)),
                )
            assert lag.worst < 0.05
            assert lag.seconds < 3.0
            codes = [answer.json()["code"] for answer in answers]
            assert set(codes) == {"store_unavailable", "rate_limited"}
            assert all("retry-after" in answer.headers for answer in answers)
            # This worker alone went on counting: five of each kind passed its limit.
            assert codes.count("rate_limited") == 30
            assert _bypassed() - bypassed == 40
        finally:
            redis_server.go_on()

        async def counts_again() -> bool:
            before = _bypassed()
            await served.client.get("/v1/sessions/s", headers=key)
            return _bypassed() == before

        await eventually_async(counts_again)


def _rejections(kind: str) -> float:
    return REGISTRY.get_sample_value("chat_limit_rejections_total", {"limit": kind}) or 0


def _bypassed() -> float:
    return REGISTRY.get_sample_value("chat_control_bypassed_total", {"control": "limits"}) or 0


@WINDOWS
async def test_a_key_whose_turn_is_gone_is_charged_like_a_new_one(start: Start, window: str) -> None:
    async with start(auth="keys", limit_sends="3/minute", limit_window=window) as served:
        key = {**bearer(await make_key(served)), "Idempotency-Key": "again"}
        statuses = []
        for _ in range(5):
            statuses.append((await send(served, key, session_id="s")).status_code)
            await served.client.delete("/v1/sessions/s", headers=key)
        assert statuses == [200, 200, 200, 429, 429]


async def test_a_key_that_a_failure_has_freed_is_charged_again(start: Start) -> None:
    async with start(auth="keys", limit_sends="3/minute") as served:
        key = {**bearer(await make_key(served)), "Idempotency-Key": "again"}
        answers = [await send(served, key, user_query="[[fault=400]]") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [400, 400, 400, 429, 429]
