"""Responses that go on from others: chains, copies, conversations, references, repeats under a key."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest

from tests.conftest import Start
from tests.double import Double
from tests.integration.test_responses import PATH, ask, client, sent
from tests.support.service import Served


async def test_a_chain_is_one_session_and_an_older_response_goes_on_in_a_copy(
    served: Served, double: Double
) -> None:
    first = await ask(served, "[[say=one]]", instructions="Only now.")
    second = await ask(served, "[[say=two]]", previous_response_id=first["id"])
    third = await ask(served, "[[say=three]]", previous_response_id=second["id"])
    assert [message["content"] for message in sent(double)[1:]] == [
        "[[say=one]]",
        "one",
        "[[say=two]]",
        "two",
        "[[say=three]]",
    ]
    assert "Only now." not in json.dumps(sent(double))
    assert third["previous_response_id"] == second["id"]
    session = third["id"].split("_", 2)[2]
    assert first["id"].endswith(session)
    branch = await ask(served, "[[say=other]]", previous_response_id=second["id"])
    assert [message["content"] for message in sent(double)[1:]] == [
        "[[say=one]]",
        "one",
        "[[say=two]]",
        "two",
        "[[say=other]]",
    ]
    assert not branch["id"].endswith(session)
    again = await ask(served, "[[say=four]]", previous_response_id=third["id"])
    assert again["id"].endswith(session)


async def test_the_input_of_a_response_is_what_its_call_brought_also_in_a_copy(served: Served) -> None:
    first = await ask(served, "[[say=one]]")
    whole = [{"role": "user", "content": "a"}, {"role": "user", "content": "[[say=b]]"}]
    for previous, asked, texts in (
        (first["id"], "[[say=two]]", ["[[say=two]]"]),
        (first["id"], "[[say=three]]", ["[[say=three]]"]),  # a copy: the first has been gone on from
        (None, whole, ["a", "[[say=b]]"]),
    ):
        body = {"previous_response_id": previous, "input": asked}
        answer = (await served.client.post(PATH, json=body)).json()
        page = (await served.client.get(f"{PATH}/{answer['id']}/input_items?order=asc")).json()
        assert [item["content"][0]["text"] for item in page["data"]] == texts


async def test_a_copy_leaves_out_what_was_never_answered(start: Start, double: Double) -> None:
    async with start(retry_budget_seconds=0) as served:
        first = await ask(served, "[[say=one]]")
        failing = {"input": "[[fault=400 times=9]]", "previous_response_id": first["id"]}
        failed = await served.client.post(PATH, json=failing)
        assert failed.status_code >= 400, failed.text
        second = await ask(served, "[[say=two]]", previous_response_id=first["id"])
        await ask(served, "[[say=three]]", previous_response_id=second["id"])
        await ask(served, "[[say=other]]", previous_response_id=second["id"])
    said = [message["content"] for message in sent(double)[1:]]
    assert said == ["[[say=one]]", "one", "[[say=two]]", "two", "[[say=other]]"]


async def test_a_repeat_under_a_key_meets_its_response_also_in_a_chain(served: Served) -> None:
    first = await ask(served, "[[say=one]]")
    for body in (
        {"input": "[[say=two]]", "previous_response_id": first["id"]},
        {"input": "[[say=three]]", "previous_response_id": first["id"]},
        {"input": "[[say=bg]]", "background": True},
        {"input": "[[say=plain]]"},
    ):
        key = {"Idempotency-Key": json.dumps(body)}
        answers = await asyncio.gather(*(served.client.post(PATH, json=body, headers=key) for _ in range(10)))
        assert {answer.status_code for answer in answers} == {200}, answers[0].text
        assert len({answer.json()["id"] for answer in answers}) == 1
        # Its own answer is the newest of the chain by now.
        late = await served.client.post(PATH, json=body, headers=key)
        assert late.json()["id"] == answers[0].json()["id"]
        other = await served.client.post(PATH, json={**body, "temperature": 0.5}, headers=key)
        assert other.json()["error"]["code"] == "idempotency_mismatch"


async def test_a_conversation_is_a_session_with_its_messages_as_items(served: Served) -> None:
    sdk = client(served)
    conversation = await sdk.conversations.create(metadata={"topic": "x"})
    assert conversation.id.startswith("conv_")
    assert (await sdk.conversations.retrieve(conversation.id)).metadata == {"topic": "x"}
    ids = []
    for word in ("one", "two"):
        answer = await sdk.responses.create(model="", input=f"[[say={word}]]", conversation=conversation.id)
        assert answer.conversation is not None
        assert answer.conversation.id == conversation.id
        ids.append(answer.output[0].id)
    items = [item async for item in sdk.conversations.items.list(conversation.id, limit=1, order="asc")]
    assert [item.content[0].text for item in items] == ["[[say=one]]", "one", "[[say=two]]", "two"]
    assert [item.id for item in items][1::2] == ids
    newest = [item.id async for item in sdk.conversations.items.list(conversation.id, limit=3)]
    assert newest == [item.id for item in items][::-1]
    one = await sdk.conversations.items.retrieve(ids[0], conversation_id=conversation.id)
    assert one.id == ids[0]
    changed = await sdk.conversations.update(conversation.id, metadata={})
    assert changed.metadata == {}
    assert (await sdk.conversations.delete(conversation.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await sdk.conversations.retrieve(conversation.id)
    await sdk.close()


async def test_references_to_items_of_earlier_answers_are_resolved(served: Served, double: Double) -> None:
    first = await ask(served, "[[say=one]]")
    again = [
        {"role": "user", "content": [{"type": "input_text", "text": "[[say=one]]"}]},
        {"type": "item_reference", "id": first["output"][0]["id"]},
        {"role": "user", "content": [{"type": "input_text", "text": "[[say=two]]"}]},
    ]
    await ask(served, again)
    assert [message["content"] for message in sent(double)] == [
        "[[say=one]]",
        "one",
        "[[say=two]]",
    ]
    await ask(served, again[1:], previous_response_id=first["id"])
    unknown = await served.client.post(PATH, json={"input": [{"type": "item_reference", "id": "msg_x"}]})
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "input[0].id")
