"""What of a conversation is sent to a model. A character is a token here, and a message has 4 more."""

from __future__ import annotations

from typing import Any

import pytest

from service.engine.context import DEFAULT_SYSTEM_PROMPT, GO_ON, Contexts
from service.engine.sends import Candidate, Send
from service.engine.tokens import Tokens
from service.errors import ServiceError
from service.store.messages import HistoryPage, Said, Session
from service.store.send_admission import SessionSnapshot
from service.store.turn_records import Turn, TurnRef
from service.upstream.models import Model

REF = TurnRef("p", "s", "t")
MODEL = Model("small", 2_048, 1_024, 1_000, frozenset(), (), (), (), "restart", "bench")
ROOM = 2_048 - 1_000 - 16
# The system prompt, and the question of one character.
ASKED = len(DEFAULT_SYSTEM_PROMPT) + 4 + 5


class History:
    """In the place of stored sessions; pages have two messages, so that more than one is read."""

    def __init__(self, said: list[Said]) -> None:
        self.said = said

    async def window(self, principal: str, session_id: str, place: int, count: int, size: int) -> HistoryPage:
        older = [one for one in reversed(self.said) if one.place < place]
        return HistoryPage(older[:2], len(older) > 2)


def contexts(said: list[Said] | None = None) -> Contexts:
    tokens = Tokens()
    tokens._exact = len
    return Contexts(History(said or []), tokens)  # type: ignore[arg-type]  # all that it calls


def one(place: int, tokens: int, turn_id: str = "") -> Said:
    """A message of so many tokens, that begins with its place."""
    return Said(place, ("user", "assistant")[place % 2], f"{place:03}".ljust(tokens - 4, "x"), turn_id)


def turn(place: int = 1_000, **params: Any) -> Turn:
    """A turn whose question stands there."""
    return Turn(REF, "running", 1, 1, "m", "m_t", place + 1, 1, 0, params=params, question="?")


async def places(said: list[Said], asked: Turn | None = None) -> tuple[list[int], int]:
    """Of the history that is sent the places, and the tokens of the prompt."""
    built = await contexts(said).build(asked or turn(), MODEL)
    assert built.messages[0] == {"role": "system", "content": DEFAULT_SYSTEM_PROMPT}
    assert built.messages[-1] == {"role": "user", "content": "?"}
    return [int(message["content"][:3]) for message in built.messages[1:-1]], built.prompt_tokens


@pytest.mark.parametrize(("asked", "completion"), [(None, 1_000), (1, 1), (1_024, 1_024), (5_000, 1_024)])
def test_an_answer_is_as_long_as_was_asked_for_and_the_model_can(asked: int | None, completion: int) -> None:
    params = {"max_completion_tokens": asked} if asked else {}
    assert contexts().completion_of(MODEL, params) == completion
    assert contexts().room(MODEL, params) == 2_048 - 16 - completion


FORM = {"type": "json_schema", "json_schema": {"name": "x" * 50}}
OF_FORM = len('[{"type":"json_schema","json_schema":{"name":""}}]') + 50


@pytest.mark.parametrize(
    ("params", "of_params"), [({}, 0), ({"response_format": FORM}, OF_FORM), ({"tools": FORM}, OF_FORM)]
)
def test_what_fits_to_the_last_token_is_taken_and_one_more_is_not(
    params: dict[str, Any], of_params: int
) -> None:
    fits = ROOM - of_params - 14 - 4
    check = contexts().check
    assert check(Send("turns", "p", "x" * fits, params=params), MODEL, "s" * 10) == ROOM
    given = [{"role": "user", "content": "x" * (fits + 14)}]
    assert check(Send("openai", "p", "", messages=given, params=params), MODEL, "s" * 10) == ROOM
    given[0]["content"] += "x"
    for send in (
        Send("turns", "p", "x" * (fits + 1), params=params),
        Send("openai", "p", "", messages=given, params=params),
    ):
        with pytest.raises(ServiceError) as refused:
            check(send, MODEL, "s" * 10)
        assert refused.value.code == "context_too_long"


def test_a_history_that_no_context_holds_is_not_begun_with() -> None:
    most = ROOM // 5
    contexts().check(Send("turns", "p", "x"), MODEL, "s", most)
    with pytest.raises(ServiceError, match=str(most)):
        contexts().check(Send("turns", "p", "x"), MODEL, "s", most + 1)


def test_of_a_whole_context_the_oldest_exchanges_go_and_no_system_message() -> None:
    def said(role: str, tokens: int) -> dict[str, Any]:
        return {"role": role, "content": "x" * (tokens - 4)}

    first, second = [said("user", 100), said("assistant", 200)], [said("user", 300), said("assistant", 100)]
    system, late, last = said("system", 50), said("system", 30), said("user", 100)
    given = [system, *first, late, *second, last]
    used = 880
    for over, kept in [
        (0, given),
        (1, [system, late, *second, last]),
        (300, [system, late, *second, last]),
        (301, [system, late, last]),
        (800, [system, late, last]),  # the newest question is never left out
    ]:
        completion = MODEL.context_window - 16 - used + over
        model = Model("m", 2_048, 2_048, completion, frozenset(), (), (), (), "restart", "bench")
        send = Send("openai", "p", "", messages=given)
        assert contexts().shortened(send, model) == kept, over


async def test_a_history_that_fits_to_the_last_token_is_sent_whole() -> None:
    said = [one(2, 500), one(3, ROOM - ASKED - 500)]
    assert await places(said) == ([2, 3], ROOM + 16)
    said = [one(2, 500), one(3, ROOM - ASKED - 499)]
    assert await places(said) == ([], ASKED + 16)
    assert await places(said, turn(whole=True)) == ([2, 3], ROOM + 17)


async def test_what_comes_behind_the_question_is_not_sent() -> None:
    said = [one(place, 10) for place in range(2, 8)]
    assert (await places(said, turn(4)))[0] == [2, 3]


@pytest.mark.parametrize(
    ("last", "tokens", "first"),
    [
        (61, 20, 32),  # of 48 that fit, 14 to 61
        (75, 20, 32),  # of 28 to 75: from 64 on would be less than half
        (121, 10, 64),
    ],
)
async def test_a_history_that_is_trimmed_begins_at_a_round_place(last: int, tokens: int, first: int) -> None:
    said = [one(place, tokens) for place in range(2, last + 1)]
    kept, prompt = await places(said)
    assert kept == list(range(first, last + 1))
    assert prompt == ASKED + 16 + tokens * len(kept)


async def test_a_trimmed_history_does_not_begin_with_an_answer() -> None:
    said = [one(2, 200), one(3, 700), one(4, 50), one(5, 200)]
    assert await places(said) == ([4, 5], ASKED + 16 + 250)


async def test_a_question_that_ended_without_a_word_is_left_out_and_a_told_one_is_not() -> None:
    said = [
        one(2, 10, "t_1"),  # answered
        one(3, 10, "t_1"),
        one(4, 10, "t_2"),  # failed
        one(6, 10),  # told by its client, with the next
        one(8, 10, "t_3"),  # stopped before its first token
        Said(9, "assistant", "", "t_3"),
    ]
    kept, _ = await places(said)
    assert kept == [2, 3, 6]


async def test_a_context_that_was_given_whole_is_sent_as_it_is() -> None:
    given = [{"role": "user", "content": "x" * 50}]
    built = await contexts([one(2, 10)]).build(turn(messages=given), MODEL)
    assert (built.messages, built.prompt_tokens, built.text_tokens) == (given, 54 + 16, 50)
    built = await contexts().build(turn(messages=given, tools=FORM), MODEL)
    assert (built.prompt_tokens, built.text_tokens) == (54 + 16 + OF_FORM, 0)
    system = await contexts().build(turn(system="be brief"), MODEL)
    assert system.messages[0] == {"role": "system", "content": "be brief"}


CUT = [{"type": "text", "text": "Once upon"}]


@pytest.mark.parametrize("prefills", [True, False])
async def test_an_answer_that_was_cut_goes_on_where_it_was(prefills: bool) -> None:
    """By a prefill where the model takes one, else by words that ask for the rest."""
    takeover = "continue" if prefills else "restart"
    model = Model("m", 2_048, 1_024, 1_000, frozenset(), (), (), (), takeover, "bench")  # type: ignore[arg-type]
    asked = turn(4)
    asked.before = CUT
    said = [one(2, 100), one(3, 100)]
    built = await contexts(said).build(asked, model)
    told = [{"role": "assistant", "content": "Once upon"}]
    told += [] if prefills else [{"role": "user", "content": GO_ON}]
    assert [*built.messages[3:]] == [{"role": "user", "content": "?"}, *told]
    assert built.prompt_tokens == ASKED + 200 + 16 + 13 + (0 if prefills else len(GO_ON) + 4)


def session(turns: int) -> Session:
    return Session("s", None, None, None, 1, 1, turns, None, True)


def candidate(snapshot: SessionSnapshot, **more: Any) -> Candidate:
    return Candidate(Send("turns", "p", "?", **more), REF, snapshot, MODEL, {"system": DEFAULT_SYSTEM_PROMPT})


SEEDS = [{"role": "user", "content": "x" * 96}, {"role": "assistant", "content": "y" * 46}]


@pytest.mark.parametrize(
    ("snapshot", "more"),
    [
        (SessionSnapshot(), 150),
        (SessionSnapshot(session=session(0)), 150 + 600),
        (SessionSnapshot(session=session(1)), 600),
    ],
)
async def test_what_a_send_begins_with_is_estimated_once(snapshot: SessionSnapshot, more: int) -> None:
    said = [one(2, 300), one(3, 300)]
    estimate = contexts(said).estimate
    assert await estimate(candidate(snapshot, seeds=SEEDS)) == ASKED + 16 + more
    if snapshot.session is not None:
        assert snapshot.page is not None
        assert [message.place for message in snapshot.page.said] == [3, 2]  # read once


async def test_who_wants_nothing_left_out_is_told_where_that_does_not_fit() -> None:
    for over, said in ((0, [one(2, ROOM - ASKED)]), (1, [one(2, ROOM - ASKED + 1)])):
        asking = candidate(SessionSnapshot(session=session(1)), trims=False)
        if not over:
            assert await contexts(said).estimate(asking) == ROOM + 16
            continue
        with pytest.raises(ServiceError) as refused:
            await contexts(said).estimate(asking)
        assert refused.value.code == "context_too_long"
        trimmed = candidate(SessionSnapshot(session=session(1)))
        assert await contexts(said).estimate(trimmed) == ASKED + 16
