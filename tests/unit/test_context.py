"""The context of a turn: how much of a history is read for it."""

from __future__ import annotations

from service.engine.context import Contexts, Tokens
from service.store.sessions import Page, Said
from service.store.turns import Turn, TurnRef
from service.upstream.models import Model

MODEL = Model("small", 2048, 1024, 1024, frozenset(), (), (), (), "restart", "bench")


class History:
    """In the place of stored sessions: pages as lua/window.lua gives them. Not the engine that is tested."""

    def __init__(self, count: int, text: str) -> None:
        self.said = [
            Said(place + 2, ("user", "assistant")[place % 2], f"{place} {text}", "") for place in range(count)
        ]
        self.pages: list[int] = []

    async def window(self, principal: str, session_id: str, place: int, count: int, size: int) -> Page:
        said: list[Said] = []
        for one in reversed(self.said[: place - 2]):
            if len(said) == count or size < 0:
                break
            said.append(one)
            size -= len(one.content) + 100  # its form
        self.pages.append(len(said))
        return Page(said, said[-1].place > 2)


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
