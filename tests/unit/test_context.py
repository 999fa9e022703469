"""The context of a turn: how much of a history is read for it."""

from __future__ import annotations

import pytest

from service.engine.context import Contexts
from service.engine.sends import Send
from service.engine.tokens import Tokens
from service.errors import ServiceError
from service.store.messages import HistoryPage, Said
from service.store.turn_records import Turn, TurnRef
from service.upstream.models import Model

MODEL = Model("small", 2048, 1024, 1024, frozenset(), (), (), (), "restart", "bench")


class History:
    """In the place of stored sessions: pages as lua/window.lua gives them. Not the engine that is tested."""

    def __init__(self, count: int, text: str) -> None:
        self.said = [
            Said(place + 2, ("user", "assistant")[place % 2], f"{place} {text}", "") for place in range(count)
        ]
        self.pages: list[int] = []

    async def window(self, principal: str, session_id: str, place: int, count: int, size: int) -> HistoryPage:
        said: list[Said] = []
        for one in reversed(self.said[: place - 2]):
            if len(said) == count or size < 0:
                break
            said.append(one)
            size -= len(one.content) + 100  # its form
        self.pages.append(len(said))
        return HistoryPage(said, said[-1].place > 2)


def turn_after(count: int) -> Turn:
    return Turn(
        TurnRef("p", "s", "t"), "running", 1, 1, "small", "m", pos=count + 3, last=0, created=0, question="?"
    )


async def test_a_history_of_ten_thousand_takes_one_read_as_one_of_ten_does() -> None:
    text = "Small talk, said again and again. " * 4
    contexts = Contexts(long := History(10_000, text), Tokens())  # type: ignore[arg-type]  # all that it calls
    chosen = (await contexts.build(turn_after(10_000), MODEL)).messages[1:-1]
    assert [one["content"] for one in chosen] == [one.content for one in long.said[-len(chosen) :]]
    assert len(chosen) >= 12
    assert len(long.pages) == 1
    assert long.pages[0] <= 48  # and not much more than the 25 that fit

    contexts = Contexts(few := History(len(chosen), text), Tokens())  # type: ignore[arg-type]  # the same
    assert len((await contexts.build(turn_after(len(chosen)), MODEL)).messages) == len(chosen) + 2
    assert len(few.pages) == 1


TOOLS = [{"type": "function", "function": {"name": "weather", "description": "rain or sun? " * 100}}]
ROOMY = Model("roomy", 131_072, 1024, 1024, frozenset(), (), (), (), "restart", "bench")


async def test_tools_and_formats_count_as_the_rest_of_the_prompt_does() -> None:
    contexts = Contexts(History(4, "text"), Tokens())  # type: ignore[arg-type]  # the same
    bare = await contexts.build(turn_after(4), ROOMY)
    for name in ("tools", "response_format"):
        turn = turn_after(4)
        turn.params = {name: TOOLS}
        told = await contexts.build(turn, ROOMY)
        assert told.messages == bare.messages
        assert 300 <= told.prompt_tokens - bare.prompt_tokens <= 400
        with pytest.raises(ServiceError) as refused:
            contexts.check(Send("turns", "p", "Hello", params={name: TOOLS * 400}), ROOMY, "system")
        assert refused.value.code == "context_too_long"


async def test_what_the_provider_makes_of_tools_does_not_change_the_estimate_of_text() -> None:
    tokens = Tokens()
    contexts = Contexts(History(40, "some text " * 50), tokens)  # type: ignore[arg-type]  # the same
    before = tokens.of("p").text("x" * 4000)
    turn = turn_after(40)
    turn.params = {"tools": TOOLS}
    context = await contexts.build(turn, ROOMY)
    for _ in range(20):
        tokens.learn("p", context.prompt_tokens, context.text_tokens, context.prompt_tokens * 3)
    assert tokens.of("p").text("x" * 4000) == before
    plain = await contexts.build(turn_after(40), ROOMY)
    twice = plain.prompt_tokens + plain.text_tokens
    for _ in range(50):
        plain = await contexts.build(turn_after(40), ROOMY)
        tokens.learn("p", plain.prompt_tokens, plain.text_tokens, twice)
    assert 1.9 < tokens.of("p").text("x" * 4000) / before < 2.1


async def test_short_prompts_teach_nothing_as_most_of_them_is_the_template() -> None:
    tokens = Tokens()
    contexts = Contexts(History(2, "short"), tokens)  # type: ignore[arg-type]  # the same
    before = tokens.of("p").text("x" * 4000)
    context = await contexts.build(turn_after(2), ROOMY)
    for _ in range(20):
        tokens.learn("p", context.prompt_tokens, context.text_tokens, context.prompt_tokens + 70)
    assert tokens.of("p").text("x" * 4000) == before


def test_what_a_prompt_has_beside_its_text_teaches_nothing_of_texts() -> None:
    tokens = Tokens()
    before = tokens.of("p").text("x" * 4000)
    tokens.learn("p", 3_000, 1_000, 3_000)
    assert tokens.of("p").text("x" * 4000) == before


async def test_what_one_callers_texts_weigh_changes_no_count_of_another() -> None:
    tokens = Tokens()
    contexts = Contexts(History(40, "some text " * 50), tokens)  # type: ignore[arg-type]  # the same
    before = tokens.of("neighbour").text("x" * 4000)
    context = await contexts.build(turn_after(40), ROOMY)
    for _ in range(50):
        tokens.learn("p", context.prompt_tokens, context.text_tokens, context.prompt_tokens * 3)
    assert tokens.of("p").text("x" * 4000) > 2.5 * before
    assert tokens.of("neighbour").text("x" * 4000) == before


async def test_a_worker_remembers_what_texts_weigh_of_so_many_callers_only() -> None:
    tokens = Tokens()
    contexts = Contexts(History(40, "some text " * 50), tokens)  # type: ignore[arg-type]  # the same
    context = await contexts.build(turn_after(40), ROOMY)
    for number in range(4_097):
        tokens.learn(f"p{number}", context.prompt_tokens, context.text_tokens, context.prompt_tokens * 2)
    plain = Tokens().of("p").text("x" * 4000)
    assert tokens.of("p0").text("x" * 4000) == plain
    assert tokens.of("p1").text("x" * 4000) > plain


@pytest.mark.parametrize("count", [3, 5, 7])
@pytest.mark.parametrize("words", range(20, 400, 7))
async def test_a_context_and_its_answer_fit_into_the_model(count: int, words: int) -> None:
    contexts = Contexts(History(count, "word " * words), Tokens())  # type: ignore[arg-type]  # the same
    built = await contexts.build(turn_after(count), MODEL)
    assert built.prompt_tokens + MODEL.default_completion <= MODEL.context_window
