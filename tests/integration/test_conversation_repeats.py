"""Conversations and items that are made again under their Idempotency-Key, and images in items."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import httpx
import pytest
import redis

from tests.conftest import Start
from tests.integration.test_images import BLIND, PICTURE, REF, SEES, asked
from tests.integration.test_responses import TOOL
from tests.support.pictures import data_url, gif, png
from tests.support.service import Served

PATH = "/v1/conversations"
KEY = {"Idempotency-Key": "k"}
OUTPUT = {"type": "function_call_output", "output": "Sun"}


def said(role: str, *content: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content[0] if len(content) == 1 else list(content)}


def picture(url: str) -> dict[str, Any]:
    return {"type": "input_image", "image_url": url}


def words(text: str) -> dict[str, Any]:
    return {"type": "input_text", "text": text}


async def post(served: Served, path: str, body: Any, headers: dict[str, str] = KEY) -> httpx.Response:
    return await served.client.post(f"{PATH}{path}", json=body, headers=headers)


async def made(served: Served, **body: Any) -> str:
    found: str = (await post(served, "", body, {})).json()["id"]
    return found


async def items(served: Served, conversation: str) -> list[dict[str, Any]]:
    answer = await served.client.get(f"{PATH}/{conversation}/items", params={"order": "asc"})
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def respond(served: Served, **body: Any) -> dict[str, Any]:
    answer = await served.client.post("/v1/responses", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def is_mismatch(answer: httpx.Response) -> bool:
    return answer.status_code == 409 and answer.json()["error"]["code"] == "idempotency_mismatch"


@pytest.mark.parametrize("send", ["chat", "responses", "completions", "turns"])
async def test_a_key_of_a_conversation_is_none_of_a_send_without_one_and_the_other_way_round(
    served: Served, send: str
) -> None:
    sends: dict[str, tuple[str, dict[str, Any]]] = {
        "chat": ("/chat", {"user_query": "[[say=one]]"}),
        "responses": ("/v1/responses", {"input": "[[say=one]]", "background": True}),
        "completions": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "[[say=one]]"}]}),
        "turns": ("/v1/sessions/s/turns", {"content": "[[say=one]]"}),
    }
    path, body = sends[send]
    made_first = await post(served, "", {})
    assert made_first.status_code == 200
    second = await served.client.post(path, json=body, headers=KEY)
    if send == "turns":  # a session was sent: the key is of that
        assert second.status_code == 200
        return
    found = second.json()
    assert (second.status_code, found.get("code") or found["error"]["code"]) == (409, "idempotency_mismatch")
    assert (await post(served, "", {})).json()["id"] == made_first.json()["id"]

    other = {"Idempotency-Key": "other"}
    assert (await served.client.post(path, json=body, headers=other)).status_code == 200
    assert is_mismatch(await post(served, "", {}, other))
    assert (await served.client.post(path, json=body, headers=other)).status_code == 200


async def test_a_key_is_free_again_where_nothing_was_made(served: Served, store: redis.Redis) -> None:
    wrong = {"items": [said("user", picture(data_url(b"no picture", "image/png")))]}
    assert (await post(served, "", wrong)).status_code == 400
    assert (await post(served, "", {})).status_code == 200
    await served.client.delete("/v1/sessions")
    assert list(store.scan_iter("*:idem:*")) == []


async def test_a_conversation_is_made_once_with_its_items(served: Served) -> None:
    body: dict[str, Any] = {
        "items": [said("user", "Hello"), said("assistant", "Hi.")],
        "metadata": {"a": "b"},
    }
    answers = await asyncio.gather(*(post(served, "", body) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    [conversation] = {answer.json()["id"] for answer in answers}
    assert conversation.startswith("conv_")
    assert answers[0].json()["metadata"] == {"a": "b"}
    assert [one["role"] for one in await items(served, conversation)] == ["user", "assistant"]
    for other in ({**body, "metadata": {"a": "c"}}, {"items": body["items"][:1]}, {}):
        assert is_mismatch(await post(served, "", other))
    assert len((await served.client.get("/v1/sessions")).json()["data"]) == 1
    await respond(served, input="[[say=ok]]", conversation=conversation)
    assert (await post(served, "", body)).json()["id"] == conversation
    assert len(await items(served, conversation)) == 4


async def test_a_key_whose_entry_has_ended_is_still_that_of_what_it_has_made(
    served: Served, store: redis.Redis
) -> None:
    first = (await post(served, "", {"metadata": {"a": "b"}})).json()
    [entry] = store.scan_iter("*:idem:*")
    store.delete(entry)
    for _ in range(2):
        assert is_mismatch(await post(served, "", {"metadata": {"a": "c"}}))
    assert (await post(served, "", {"metadata": {"a": "b"}})).json() == first


async def test_a_conversation_that_was_made_without_its_items_gets_them_from_the_repeat(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"items": [said("user", "Hello")]}
    amendments = served.app.state.edge.engine.store.amendments
    with monkeypatch.context() as broken:  # as where the worker was killed in between
        broken.setattr(amendments, "newest", None)
        assert (await post(served, "", body)).status_code == 500
    again = (await post(served, "", body)).json()["id"]
    assert len(await items(served, again)) == 1


async def test_items_are_added_once_and_told_of_again(served: Served) -> None:
    conversation = await made(served)
    path, body = f"/{conversation}/items", {"items": [said("user", "Hello"), said("assistant", "Hi.")]}
    answers = await asyncio.gather(*(post(served, path, body) for _ in range(5)))
    first = answers[0].json()
    assert [answer.json() for answer in answers] == [first] * 5
    assert [one["role"] for one in first["data"]] == ["user", "assistant"]
    assert is_mismatch(await post(served, path, {"items": [said("user", "Other")]}))
    await post(served, path, {"items": [said("user", "More")]}, {})
    assert (await post(served, path, body)).json() == first
    assert len(await items(served, conversation)) == 3
    slow = await respond(served, input="[[tokens=400 rate=40]]", conversation=conversation, background=True)
    assert (await post(served, path, body)).json() == first  # it is busy, which is no matter of a repeat's
    await served.client.post(f"/v1/responses/{slow['id']}/cancel")


async def test_of_an_answer_that_has_gone_on_since_a_repeat_tells_what_was_added(served: Served) -> None:
    conversation = await made(served)
    called = await respond(served, input="[[tool=weather say=ok]]", conversation=conversation, tools=[TOOL])
    output = {**OUTPUT, "call_id": called["output"][0]["call_id"]}
    path = f"/{conversation}/items"
    first = (await post(served, path, {"items": [output]})).json()
    assert [one["type"] for one in first["data"]] == ["function_call_output"]
    await post(served, path, {"items": [said("assistant", "It is sunny.")]}, {})
    again = (await post(served, path, {"items": [output]})).json()
    assert again == first
    assert len(await items(served, conversation)) == 4


async def test_a_key_of_items_is_no_other_call_s(served: Served) -> None:
    conversation = await made(served)
    added = {"items": [said("user", "Hello")]}
    await post(served, f"/{conversation}/items", added)
    asking = {"input": "[[say=ok]]", "conversation": conversation}
    assert is_mismatch(await served.client.post("/v1/responses", json=asking, headers=KEY))
    other = {"Idempotency-Key": "other"}
    await served.client.post("/v1/responses", json=asking, headers=other)
    assert is_mismatch(await post(served, f"/{conversation}/items", added, other))
    elsewhere = await made(served)
    assert (await post(served, f"/{elsewhere}/items", added)).status_code == 200


async def test_a_deleted_conversation_leaves_no_key_behind(served: Served, store: redis.Redis) -> None:
    conversation = await made(served)
    for number in range(3):
        key = {"Idempotency-Key": f"k{number}"}
        await post(served, f"/{conversation}/items", {"items": [said("user", "Hello")]}, key)
    assert len(list(store.scan_iter("*:idem:*"))) == 3
    await served.client.delete(f"{PATH}/{conversation}")
    assert list(store.scan_iter("chat:{none.anonymous/*")) == []


@pytest.mark.parametrize("at_once", [True, False], ids=["with the conversation", "to it"])
async def test_an_image_in_an_item_is_kept_and_seen(
    served: Served, store: redis.Redis, double: Any, at_once: bool
) -> None:
    item = said("user", words("what is it"), picture(data_url(PICTURE)))
    if at_once:
        conversation = await made(served, items=[item])
    else:
        conversation = await made(served)
        assert (await post(served, f"/{conversation}/items", {"items": [item]}, {})).status_code == 200
    [shown] = await items(served, conversation)
    url = f"/v1/sessions/{conversation}/images/{REF}"
    assert [part["type"] for part in shown["content"]] == ["input_text", "input_image"]
    assert shown["content"][1]["image_url"] == url
    assert (await served.client.get(url)).content == PICTURE
    [message] = (await served.client.get(f"/v1/sessions/{conversation}/messages")).json()["data"]
    kept = {"type": "image", "ref": REF, "media_type": "image/png", "width": 30, "height": 20}
    assert message["parts"][1] == kept
    session: Any = store.hgetall(f"chat:{{none.anonymous/{conversation}}}:session")
    assert session["images"] == f"{REF} "
    assert not [name for name in session if name.startswith("held")]
    await respond(served, input="[[say=red]] now", conversation=conversation, model=SEES)
    assert asked(double, "now")[0][1]["image_url"]["url"] == data_url(PICTURE)
    await respond(served, input="[[say=ok]] then", conversation=conversation, model=BLIND)
    assert asked(double, "then")[0] == "what is it\n[an image that is not shown here]"
    # What is listed may be added again, as it is.
    again = {"items": [{"role": "user", "content": shown["content"]}]}
    assert (await post(served, f"/{conversation}/items", again, {})).status_code == 200


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("data:image/png;base64,AAAA", 400, "invalid_request"),
        (f"image:{'0' * 64}", 400, "invalid_request"),
        (data_url(png(extra=6_000)), 413, "image_too_large"),
        (data_url(gif(60_000, 60_000), "image/gif"), 413, "image_too_large"),
    ],
)
async def test_an_image_that_cannot_be_added_leaves_nothing(
    start: Start, store: redis.Redis, url: str, status: int, code: str
) -> None:
    async with start(max_image_bytes=5_000) as served:
        body = {"items": [said("user", words("what"), picture(url))]}
        answer = await post(served, "", body, {})
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
        assert list(store.scan_iter("chat:{none.anonymous/*")) == []
        conversation = await made(served)
        answer = await post(served, f"/{conversation}/items", body, {})
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
        assert list(store.scan_iter("chat:{none.anonymous/*:messages")) == []


async def test_images_of_items_count_as_stored_and_go_again_where_the_items_do_not_fit(start: Start) -> None:
    async with start(max_stored_bytes_per_principal=100_000) as served:

        async def used() -> int:
            return int((await served.client.get("/v1/usage")).json()["storage"]["bytes"]["used"])

        conversation = await made(served)
        empty, large = await used(), png(extra=60_000)
        body = {"items": [said("user", words("x" * 50_000), picture(data_url(large)))]}
        full = await post(served, f"/{conversation}/items", body)
        assert (full.status_code, full.json()["error"]["code"]) == (429, "storage_full")
        assert await used() == empty
        body["items"][0]["content"][0]["text"] = "x"
        for _ in range(2):
            assert (await post(served, f"/{conversation}/items", body)).status_code == 200
        assert 60_000 < await used() - empty < 62_000
        ref = hashlib.sha256(large).hexdigest()
        assert (await served.client.get(f"/v1/sessions/{conversation}/images/{ref}")).status_code == 200
