"""Parts of messages: their stored form, rounds of tools, and what a model is told of them."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest

from service import parts
from service.engine.context import Contexts
from service.engine.tokens import Tokens
from service.parts import Part
from service.store.messages import HistoryPage, Message, Said
from service.store.turn_records import Turn, TurnRef
from service.upstream.models import Model

SMALL = Model("small", 2_048, 1_024, 1_024, frozenset(), (), (), (), "restart", "bench")


def text(words: str) -> Part:
    return {"type": "text", "text": words}


def call(call_id: str, name: str = "weather", arguments: str = '{"city":"Ulm"}') -> Part:
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}


THREE_ROUNDS: list[Part] = [
    {"type": "reasoning", "text": "I need the weather."},
    text("Let me look."),
    call("a"),
    call("b"),
    parts.result("a", "rain"),
    parts.result("b", "no such city", is_error=True),
    call("c", "time"),
    parts.result("c", '{"hour": 9}', json=True),
    text("It rains."),
]
AS_CHAT: list[dict[str, Any]] = [
    {
        "role": "assistant",
        "content": "Let me look.",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}},
            {"id": "b", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}},
        ],
    },
    {"role": "tool", "tool_call_id": "a", "content": "rain"},
    {"role": "tool", "tool_call_id": "b", "content": "no such city"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "time", "arguments": '{"city":"Ulm"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "c", "content": '{"hour": 9}'},
    {"role": "assistant", "content": "It rains."},
]


def message(role: str, content: str, **fields: Any) -> Message:
    return Message("m_1", role, content, "t_1", "completed", 1_795_395_319_813, **fields)


def test_a_message_of_text_alone_is_stored_in_the_bytes_of_version_0_1_0() -> None:
    """119 bytes for this question and 261 for this answer, byte for byte what 0.1.0 wrote."""
    question = message("user", "Why is the sky blue?")
    assert question.dump() == (
        b'{"id":"m_1","role":"user","content":"Why is the sky blue?","turn_id":"t_1",'
        b'"state":"completed","created":1795395319813}'
    )
    usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
    answer = message(
        "assistant",
        "Rayleigh scattering.",
        reasoning="Physics.",
        finish_reason="stop",
        model="m",
        usage=usage,
        begun=1,
    )
    assert answer.dump() == (
        b'{"id":"m_1","role":"assistant","content":"Rayleigh scattering.","turn_id":"t_1",'
        b'"state":"completed","created":1795395319813,"reasoning":"Physics.","finish_reason":"stop",'
        b'"model":"m","usage":{"prompt_tokens":20,"completion_tokens":5,"total_tokens":25},"begun":1}'
    )


def test_a_message_of_version_0_1_0_is_read_as_parts() -> None:
    delta = {"index": 0, "id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"ci'}}
    rest = {"index": 0, "function": {"arguments": 'ty":"Ulm"}'}}
    old = {"role": "assistant", "content": "Hm.", "reasoning": "Well.", "tool_calls": [delta, rest]}
    read = Message.load("m_1", orjson.dumps(old))
    assert read.parts == ()
    assert read.whole == [{"type": "reasoning", "text": "Well."}, text("Hm."), call("a")]


def test_parts_come_back_as_they_were_stored_and_a_text_is_stored_once() -> None:
    kept = message("assistant", parts.text_of(THREE_ROUNDS), parts=tuple(THREE_ROUNDS))
    assert Message.load("m_1", kept.dump()).whole == THREE_ROUNDS
    single: tuple[Part, ...] = (call("a"), parts.result("a", "rain"), text("It rains, as it often does."))
    stored = message("assistant", parts.text_of(single), parts=single).dump()
    assert stored.count(b"as it often does") == 1
    assert Message.load("m_1", stored).whole == list(single)


def test_version_0_1_0_reads_a_message_with_parts_as_its_text() -> None:
    body = orjson.loads(message("assistant", parts.text_of(THREE_ROUNDS), parts=tuple(THREE_ROUNDS)).dump())
    assert (body["role"], body["content"]) == ("assistant", "Let me look.\n\nIt rains.")
    assert "tool_calls" not in body


def test_a_model_is_told_of_rounds_in_order_without_what_was_thought() -> None:
    assert parts.chat("assistant", "", THREE_ROUNDS) == AS_CHAT


def test_a_model_that_wants_its_thoughts_back_is_told_them() -> None:
    told = parts.chat("assistant", "", THREE_ROUNDS, reasoning=True)
    assert told[0]["reasoning"] == "I need the weather."


def test_a_call_without_a_result_is_told_to_no_model() -> None:
    assert parts.chat("assistant", "", [call("a")]) == []
    assert parts.chat("assistant", "", [text("Wait."), call("a")]) == [
        {"role": "assistant", "content": "Wait."}
    ]
    half = parts.chat("assistant", "", [call("a"), call("b"), parts.result("b", "rain")])
    assert [one["id"] for one in half[0]["tool_calls"]] == ["b"]
    assert len(half) == 2


def test_chat_messages_fold_into_exchanges_and_back() -> None:
    question = {"role": "user", "content": "Rain?"}
    records = parts.folded([question, *AS_CHAT, {"role": "user", "content": "Thanks."}])
    assert [record["role"] for record in records] == ["user", "assistant", "user"]
    assert parts.chat("assistant", "", records[1]["parts"]) == AS_CHAT
    assert records[0] == {"role": "user", "content": "Rain?"}


def test_calls_that_nobody_answered_fold_into_nothing() -> None:
    assert parts.folded([{"role": "user", "content": "Rain?"}, {**AS_CHAT[3]}]) == [
        {"role": "user", "content": "Rain?"}
    ]


def test_a_result_belongs_to_the_last_round_that_has_its_call() -> None:
    twice = [call("a"), parts.result("a", "rain"), call("a"), call("b")]
    assert parts.open_calls(twice) == twice[2:]
    known = parts.with_results(twice, [parts.result("b", "sun"), parts.result("a", "snow")])
    assert known == [*twice, parts.result("a", "snow"), parts.result("b", "sun")]
    assert parts.with_results(twice, [parts.result("z", "sun")]) is None
    assert parts.with_results(twice, []) is None


def test_results_given_again_take_the_place_of_what_followed_them() -> None:
    again = parts.with_results(THREE_ROUNDS, [parts.result("c", "10")])
    assert again == [*THREE_ROUNDS[:7], parts.result("c", "10")]


def test_a_thousand_rounds_fold_in_time_that_grows_with_their_number() -> None:
    def chat(rounds: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [{"role": "user", "content": "Rain?"}]
        for i in range(rounds):
            named = [{"id": f"{i}.{j}", "function": {"name": "f", "arguments": ""}} for j in range(5)]
            found.append({"role": "assistant", "content": None, "tool_calls": named})
            found.append({"role": "tool", "tool_call_id": f"{i}.0", "content": ""})
        return found

    def seconds(rounds: int) -> float:
        messages, since = chat(rounds), time.process_time()
        (_, answer) = parts.folded(messages)
        assert len(answer["parts"]) == 6 * rounds
        return time.process_time() - since

    few = min(seconds(100) for _ in range(5))
    assert min(seconds(1_000) for _ in range(5)) < 40 * few


class History:
    """In the place of stored sessions: one page. Not the engine that is tested."""

    def __init__(self, said: list[Said]) -> None:
        self.said = said

    async def window(self, principal: str, session_id: str, place: int, count: int, size: int) -> HistoryPage:
        return HistoryPage([one for one in reversed(self.said) if one.place < place], False)


def exchange(slot: int, words: str) -> list[Said]:
    answer = [call(f"c{slot}"), parts.result(f"c{slot}", words), text("Done.")]
    return [
        Said(2 * slot, "user", f"Question {slot}?", f"t_{slot}"),
        Said(2 * slot + 1, "assistant", "Done.", f"t_{slot}", answer),
    ]


@pytest.mark.parametrize("words", [10, 60, 110, 160, 400])
async def test_trimming_never_parts_a_call_from_its_results(words: int) -> None:
    history = History([one for slot in range(1, 30) for one in exchange(slot, "word " * words)])
    contexts = Contexts(history, Tokens())  # type: ignore[arg-type]  # all that it calls
    ref = TurnRef("p", "s", "t")
    turn = Turn(ref, "running", 1, 1, "small", "m", pos=61, last=0, created=0, question="?")
    built = await contexts.build(turn, SMALL)
    assert built.prompt_tokens + SMALL.default_completion <= SMALL.context_window
    told = built.messages[1:-1]
    called = [one["id"] for message in told for one in message.get("tool_calls", ())]
    answered = [message["tool_call_id"] for message in told if message["role"] == "tool"]
    assert called == answered
    assert not told or told[0]["role"] == "user"
    assert len(called) == len([message for message in told if message["role"] == "user"])


async def test_a_round_that_was_abandoned_is_left_out_with_its_question() -> None:
    pending = [
        Said(2, "user", "Rain?", "t_1"),
        Said(3, "assistant", "", "t_1"),
        Said(4, "user", "Never mind.", "t_2"),
        Said(5, "assistant", "Fine.", "t_2"),
    ]
    contexts = Contexts(History(pending), Tokens())  # type: ignore[arg-type]  # all that it calls
    ref = TurnRef("p", "s", "t")
    turn = Turn(ref, "running", 1, 1, "small", "m", pos=7, last=0, created=0, question="?")
    told = (await contexts.build(turn, SMALL)).messages
    assert [one["content"] for one in told[1:]] == ["Never mind.", "Fine.", "?"]


@pytest.mark.parametrize("name", ["id", "name", "arguments"])
def test_all_that_a_call_says_counts_as_its_size(name: str) -> None:
    call: parts.Part = {"type": parts.CALL, "id": "", "name": "", "arguments": ""}
    assert parts.size_of([{**call, name: "é" * 1_000}]) == parts.size_of([call]) + 2_000
