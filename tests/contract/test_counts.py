"""What is counted and bounded whatever the dialect: readers that come back, turns that run, what is named."""

from __future__ import annotations

from typing import Any

from prometheus_client import REGISTRY

from service.dialects.responses_object import public_id
from service.telemetry import metrics
from tests.support.pictures import data_url, png
from tests.support.service import Served
from tests.support.waiting import eventually_async

SAY = "[[tokens=5]]"


def resumes() -> float:
    return REGISTRY.get_sample_value("chat_reader_resumes_total") or 0


def reading() -> dict[str, float | None]:
    return {
        name: REGISTRY.get_sample_value("chat_readers_open", {"dialect": name}) for name in metrics.DIALECTS
    }


async def test_no_proxy_holds_or_packs_a_stream_and_each_names_its_session_and_turn(served: Served) -> None:
    said = {"role": "user", "content": SAY}
    page = {"id": "c", "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": SAY}]}]}
    before = reading()
    for path, body in (
        ("/chat", {"user_query": SAY}),
        ("/v1/sessions/s/turns", {"content": SAY}),
        ("/v1/chat/completions", {"messages": [said], "stream": True}),
        ("/v1/responses", {"input": SAY, "stream": True}),
        ("/api/chat", page),
    ):
        answer = await served.client.post(path, json=body)
        assert answer.status_code == 200, path
        held = [answer.headers.get(name) for name in ("cache-control", "x-accel-buffering", "content-length")]
        assert held == ["no-cache, no-transform", "no", None], path
        turn = f"/v1/sessions/{answer.headers['x-session-id']}/turns/{answer.headers['x-turn-id']}"
        assert (await served.client.get(turn)).json()["state"] == "completed", path
    assert reading() == before  # who has left reads no more


async def test_readers_that_come_back_are_counted_in_each_dialect_and_others_are_not(served: Served) -> None:
    ask, client = served.client.post, served.client
    turn = await ask("/v1/sessions/s/turns", json={"content": SAY})
    page = {"id": "c", "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": SAY}]}]}
    chunks = (await ask("/api/chat", json=page)).text.split("\n\n")
    response = (await ask("/v1/responses", json={"input": SAY})).json()
    before = resumes()
    native, stream = turn.headers["location"], "/api/chat/c/stream"
    of_openai = f"/v1/responses/{response['id']}?stream=true"
    seen = chunks[1].rpartition("id: ")[2]
    for path, headers, count in (
        (native, {}, 0),
        (native, {"Last-Event-ID": "1"}, 1),
        (f"{native}?after=2", {}, 2),
        (stream, {"Last-Event-ID": seen}, 3),
        (of_openai, {}, 3),
        (f"{of_openai}&starting_after=17", {}, 4),
    ):
        answer = await client.get(path, headers=headers)
        assert (answer.status_code, resumes() - before) == (200, count), path


async def test_health_tells_how_many_turns_run(served: Served) -> None:
    async def running() -> int:
        found: int = (await served.client.get("/health")).json()["turns_running"]
        return found

    assert await running() == 0
    slow = {"content": "[[tokens=2000 rate=100]]"}
    turn = await served.client.post("/v1/sessions/s/turns", json=slow, headers={"Prefer": "respond-async"})
    assert await running() == 1
    await served.client.post(f"{turn.headers['location']}/stop")

    async def none() -> bool:
        return await running() == 0

    await eventually_async(none)


async def test_a_request_brings_20_images_and_names_500_items_at_most(served: Served) -> None:
    images = [{"type": "image_url", "image_url": {"url": data_url(png(8, 8 + n))}} for n in range(21)]
    named = [{"type": "item_reference", "id": public_id("msg", "s", "t_" + "0" * 26, n)} for n in range(501)]
    asked: list[tuple[str, dict[str, Any], str]] = [
        ("/v1/sessions/s/turns", {"content": images}, "A request has more than 20 images."),
        ("/v1/responses", {"input": named}, "The input names more than 500 items."),
    ]
    for path, body, sentence in asked:
        answer = await served.client.post(path, json=body)
        assert answer.status_code == 400
        assert sentence in answer.text
