"""Items of conversations that are added, read and taken out by themselves, with OpenAI's own SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.conftest import Start
from tests.double import Double
from tests.integration.test_responses import TOOL, client, sent
from tests.support.pictures import data_url, png
from tests.support.service import Served

PATH = "/v1/conversations"
CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "Sun"}


@pytest.fixture
async def sdk(served: Served) -> AsyncIterator[Any]:
    async with client(served) as found:
        yield found


def said(role: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": text}


async def items_of(sdk: Any, conversation: str, **query: Any) -> list[Any]:
    return [item async for item in sdk.conversations.items.list(conversation, order="asc", **query)]


def told(items: list[Any]) -> list[Any]:
    """What each is: the text of a message, the id of a call, what a function gave."""
    found = []
    for item in items:
        kind = item.type
        found.append(
            (item.role, item.content[0].text) if kind == "message" else (kind, getattr(item, "output", "-"))
        )
    return found


@pytest.mark.parametrize("message_id", ["a/b", "/", "a//b/", "..", "?#", "%2F", "é 🙂"])
async def test_an_item_of_any_id_is_read_and_taken_out(served: Served, sdk: Any, message_id: str) -> None:
    message = {"id": message_id, "role": "user", "parts": [{"type": "text", "text": "[[say=Hi]]"}]}
    await served.client.post("/api/chat", json={"id": "s", "messages": [message]})
    question, answer = await items_of(sdk, "s")
    assert question.id == f"msg_{message_id}"
    assert await sdk.conversations.items.retrieve(question.id, conversation_id="s") == question
    await sdk.conversations.items.delete(question.id, conversation_id="s")
    assert [item.id for item in await items_of(sdk, "s")] == [answer.id]


async def test_a_conversation_begins_with_items_and_responses_are_told_of_them(
    served: Served, sdk: Any, double: Double
) -> None:
    made = await sdk.conversations.create(
        items=[said("developer", "Be kind."), said("user", "Hello"), said("assistant", "Hi.")],
        metadata={"topic": "x"},
    )
    assert made.metadata == {"topic": "x"}
    begun = [("system", "Be kind."), ("user", "Hello"), ("assistant", "Hi.")]
    assert told(await items_of(sdk, made.id)) == begun
    stored = (await served.client.get(f"/v1/sessions/{made.id}/messages")).json()["data"]
    assert [(one["role"], one["content"]) for one in stored] == begun
    answer = await sdk.responses.create(model="", input="[[say=Sure]]", conversation=made.id)
    assert answer.output_text == "Sure"
    told_of = [(one["role"], one["content"]) for one in sent(double)[1:]]
    assert told_of == [*begun, ("user", "[[say=Sure]]")]
    asked = [item async for item in sdk.responses.input_items.list(answer.id, order="asc")]
    assert told(asked) == [("user", "[[say=Sure]]")]
    added = await sdk.conversations.items.create(made.id, items=[said("user", "And now?")])
    assert told(added.data) == [("user", "And now?")]
    whole = await items_of(sdk, made.id)
    assert told(whole) == [*begun, ("user", "[[say=Sure]]"), ("assistant", "Sure"), ("user", "And now?")]
    assert whole[4].id == answer.output[0].id
    one = await sdk.conversations.items.retrieve(added.first_id, conversation_id=made.id)
    assert one == added.data[0] == whole[-1]


async def test_pages_of_items_go_both_ways_whatever_they_are(sdk: Any) -> None:
    many = [said(("user", "assistant")[i % 2], str(i)) for i in range(4)]
    conversation = (await sdk.conversations.create(items=[*many, CALL, OUTPUT, said("assistant", "4")])).id
    whole = await items_of(sdk, conversation)
    assert told(whole)[4:] == [("function_call", "-"), ("function_call_output", "Sun"), ("assistant", "4")]
    assert len({item.id for item in whole}) == 7
    for limit in (1, 2, 3, 7):
        assert await items_of(sdk, conversation, limit=limit) == whole
        newest = [item async for item in sdk.conversations.items.list(conversation, limit=limit)]
        assert newest == whole[::-1]
    for item in whole:
        assert await sdk.conversations.items.retrieve(item.id, conversation_id=conversation) == item
    rest = await sdk.conversations.items.list(conversation, after=whole[2].id, order="asc", limit=2)
    assert (rest.data, rest.has_more) == (whole[3:5], True)


@pytest.mark.parametrize(
    ("name", "value"), [("limit", "0"), ("limit", "101"), ("limit", "x"), ("order", "up")]
)
async def test_a_wrong_parameter_of_a_list_is_named(served: Served, sdk: Any, name: str, value: str) -> None:
    conversation = (await sdk.conversations.create()).id
    answer = await served.client.get(f"{PATH}/{conversation}/items", params={name: value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)


async def test_a_loop_of_tools_is_added_piece_by_piece_and_is_one_answer(sdk: Any, double: Double) -> None:
    conversation = (await sdk.conversations.create()).id
    pieces = [
        said("user", "Weather?"),
        {"type": "reasoning", "id": "rs_1", "summary": []},
        CALL,
        OUTPUT,
        {**CALL, "call_id": "c2"},
        {**OUTPUT, "call_id": "c2"},
        said("assistant", "It is sunny."),
    ]
    added = []
    for piece in pieces:
        added += (await sdk.conversations.items.create(conversation, items=[piece])).data
    assert [item.type for item in added] == [
        "message",
        *("function_call", "function_call_output") * 2,
        "message",
    ]
    assert await items_of(sdk, conversation) == added
    await sdk.responses.create(model="", input="[[say=ok]]", conversation=conversation, tools=[TOOL])
    roles = [message["role"] for message in sent(double)[1:]]
    assert roles == ["user", "assistant", "tool", "assistant", "tool", "assistant", "user"]
    with pytest.raises(openai.BadRequestError, match="no function_call"):
        await sdk.conversations.items.create(conversation, items=[OUTPUT])


async def test_an_output_that_is_added_answers_the_call_of_a_response(sdk: Any, double: Double) -> None:
    conversation = (await sdk.conversations.create()).id
    called = await sdk.responses.create(
        model="", input="[[tool=weather]]", conversation=conversation, tools=[TOOL]
    )
    output = {**OUTPUT, "call_id": called.output[0].call_id}
    added = await sdk.conversations.items.create(conversation, items=[output])
    assert told(added.data) == [("function_call_output", "Sun")]
    await sdk.responses.create(model="", input="[[say=ok]]", conversation=conversation, tools=[TOOL])
    assert [message["role"] for message in sent(double)[1:]] == ["user", "assistant", "tool", "user"]


async def test_items_are_taken_out_one_by_one(sdk: Any, double: Double) -> None:
    conversation = (
        await sdk.conversations.create(
            items=[
                said("user", "Hello"),
                said("assistant", "Let me see."),
                CALL,
                OUTPUT,
                said("user", "So?"),
            ],
            metadata={"a": "b"},
        )
    ).id
    whole = await items_of(sdk, conversation)
    left = await sdk.conversations.items.delete(whole[3].id, conversation_id=conversation)
    assert (left.id, left.metadata) == (conversation, {"a": "b"})
    assert await items_of(sdk, conversation) == whole[:3] + whole[4:]
    await sdk.conversations.items.delete(whole[2].id, conversation_id=conversation)
    await sdk.conversations.items.delete(whole[4].id, conversation_id=conversation)
    assert told(await items_of(sdk, conversation)) == [("user", "Hello"), ("assistant", "Let me see.")]
    answer = await sdk.responses.create(model="", input="[[say=ok]]", conversation=conversation)
    await sdk.conversations.items.delete(answer.output[0].id, conversation_id=conversation)
    await sdk.conversations.items.delete(whole[0].id, conversation_id=conversation)
    assert told(await items_of(sdk, conversation)) == [("assistant", "Let me see."), ("user", "[[say=ok]]")]
    with pytest.raises(openai.NotFoundError):
        await sdk.conversations.items.delete(whole[0].id, conversation_id=conversation)
    with pytest.raises(openai.NotFoundError):
        await sdk.conversations.items.retrieve(whole[2].id, conversation_id=conversation)
    await sdk.responses.create(model="", input="[[say=more]]", conversation=conversation)


async def test_with_a_call_goes_its_output(sdk: Any, double: Double) -> None:
    two = [CALL, {**CALL, "call_id": "c2"}, OUTPUT, {**OUTPUT, "call_id": "c2"}]
    conversation = (await sdk.conversations.create(items=[said("user", "Hello"), *two])).id
    whole = await items_of(sdk, conversation)
    await sdk.conversations.items.delete(whole[1].id, conversation_id=conversation)
    left = await items_of(sdk, conversation)
    assert [getattr(item, "call_id", "") for item in left] == ["", "c2", "c2"]
    await sdk.responses.create(model="", input="[[say=ok]]", conversation=conversation, tools=[TOOL])
    assert [message["role"] for message in sent(double)[1:]] == ["user", "assistant", "tool", "user"]


async def test_nothing_is_added_or_taken_out_while_it_answers(served: Served, sdk: Any) -> None:
    conversation = (await sdk.conversations.create(items=[said("user", "Hello")])).id
    (item,) = await items_of(sdk, conversation)
    slow = await sdk.responses.create(
        model="", input="[[tokens=400 rate=40]]", conversation=conversation, background=True
    )
    for call in (
        sdk.conversations.items.create(conversation, items=[said("user", "x")]),
        sdk.conversations.items.delete(item.id, conversation_id=conversation),
    ):
        with pytest.raises(openai.ConflictError) as busy:
            await call
        assert busy.value.code == "turn_in_progress"
    await sdk.responses.cancel(slow.id)
    await sdk.conversations.items.delete(item.id, conversation_id=conversation)


async def test_additions_at_the_same_time_are_all_there(sdk: Any) -> None:
    conversation = (await sdk.conversations.create()).id
    many = AsyncMany(sdk, conversation)
    await asyncio.gather(*(many.add(str(i)) for i in range(5)))
    texts = [text for _, text in told(await items_of(sdk, conversation))]
    assert sorted(texts) == list("01234")


class AsyncMany:
    """Adds as the SDK does that repeats what is 409."""

    def __init__(self, sdk: Any, conversation: str) -> None:
        self._sdk = sdk.with_options(max_retries=5)
        self._conversation = conversation

    async def add(self, text: str) -> None:
        await self._sdk.conversations.items.create(self._conversation, items=[said("user", text)])


@pytest.mark.parametrize(
    ("items", "status", "code", "param"),
    [
        ([said("user", "x")] * 21, 400, "invalid_request", "items"),
        ([said("robot", "x")], 400, "invalid_request", "items[0].role"),
        ([{"type": "web_search_call"}], 400, "unsupported_parameter", "items[0].type"),
        ([said("user", "x"), OUTPUT], 400, "invalid_request", "items[1].call_id"),
        ([{"type": "item_reference", "id": "msg_x"}], 404, "not_found", "items[0].id"),
        (["x"], 400, "invalid_request", "items.0"),
    ],
)
async def test_what_cannot_be_added_is_refused_and_stores_nothing(
    served: Served, sdk: Any, store: Any, items: list[Any], status: int, code: str, param: str
) -> None:
    answer = await served.client.post(PATH, json={"items": items})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), answer.text
    assert list(store.scan_iter("chat:{*}:session")) == []
    conversation = (await sdk.conversations.create()).id
    answer = await served.client.post(f"{PATH}/{conversation}/items", json={"items": items})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert await items_of(sdk, conversation) == []
    for method, path in (("POST", "/items"), ("GET", "/items/msg_x"), ("DELETE", "/items/msg_x")):
        answer = await served.client.request(
            method, f"{PATH}/none{path}", json={"items": [said("user", "x")]} if method == "POST" else None
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "session_not_found")


async def test_include_is_taken_and_logprobs_are_refused(served: Served, sdk: Any) -> None:
    conversation = (await sdk.conversations.create(items=[said("user", "x")])).id
    wanted = ["reasoning.encrypted_content"]
    added = await sdk.conversations.items.create(conversation, items=[said("user", "y")], include=wanted)
    assert [item.id for item in await items_of(sdk, conversation, include=wanted)][1:] == [added.first_id]
    with pytest.raises(openai.BadRequestError):
        await items_of(sdk, conversation, include=["message.output_text.logprobs"])


async def test_items_and_metadata_count_as_stored_and_what_is_too_much_is_refused(start: Start) -> None:
    async with (
        start(max_stored_bytes_per_principal=40_000, log_level="error") as served,
        client(served) as sdk,
    ):

        async def kept() -> int:
            return int((await served.client.get("/v1/usage")).json()["storage"]["bytes"]["used"])

        conversation = (await sdk.conversations.create()).id
        empty = await kept()
        await sdk.conversations.update(conversation, metadata={"a": "b" * 500})
        tagged = await kept()
        assert 500 < tagged - empty < 600
        added = await sdk.conversations.items.create(conversation, items=[said("user", "x" * 10_000)])
        assert 10_000 < await kept() - tagged < 11_000
        with pytest.raises(openai.RateLimitError) as full:
            await sdk.conversations.items.create(conversation, items=[said("user", "x" * 30_000)])
        assert full.value.code == "storage_full"
        with pytest.raises(openai.RateLimitError):
            await sdk.conversations.create(items=[said("user", "x" * 30_000)])
        assert len(await items_of(sdk, conversation)) == 1
        # A turn's seal counts the session anew, and comes to the same.
        before = await kept()
        await sdk.responses.create(model="", input="[[say=ok]]", conversation=conversation)
        grown = await kept() - before
        assert 0 < grown < 8_000
        await sdk.conversations.items.delete(added.first_id, conversation_id=conversation)
        assert 10_000 < before + grown - await kept() < 11_000
        await sdk.conversations.delete(conversation)
        assert await kept() < 8_000


async def test_what_a_conversation_holds_is_on_its_account_to_the_byte_whatever_is_done_to_it(
    start: Start, store: Any
) -> None:
    async with start(max_stored_bytes_per_principal=1_000_000) as served, client(served) as sdk:
        conversation = (await sdk.conversations.create(metadata={"a": "b"})).id

        def is_right() -> bool:
            held: dict[str, str] = store.hgetall(f"chat:{{none.anonymous/{conversation}}}:session")
            counted = 1_000 + len(held["metadata"]) + int(held.get("bytes", 0))
            return counted == int(store.hget("chat:{none.anonymous}:stored", conversation))

        image = {"type": "input_image", "image_url": data_url(png())}
        items = [
            [said("user", "Weather?"), CALL],
            [OUTPUT],
            [said("assistant", "Sunny.")],
            [said("user", "Thanks.")],
        ]
        items.append([{"type": "message", "role": "user", "content": [image]}])
        for some in items:
            await sdk.conversations.items.create(
                conversation, items=some, extra_headers={"Idempotency-Key": f"k{len(some)}{some[0]}"[:50]}
            )
            assert is_right(), some
        while len(left := await items_of(sdk, conversation)) > 1:
            await sdk.conversations.items.delete(left[-1].id, conversation_id=conversation)
            assert is_right(), left
        assert not store.hget(f"chat:{{none.anonymous/{conversation}}}:session", "images")
        answering = {"model": "", "input": "[[tokens=400 rate=40]]", "conversation": conversation}
        slow = await sdk.responses.create(**answering, background=True)
        before = store.hget("chat:{none.anonymous}:stored", conversation)
        with pytest.raises(openai.ConflictError):
            await sdk.conversations.items.create(conversation, items=[said("user", "x")])
        assert store.hget("chat:{none.anonymous}:stored", conversation) == before
        await sdk.responses.cancel(slow.id)
