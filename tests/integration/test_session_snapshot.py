"""What a send has seen of its session is what it answers, unless something has happened in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.store.send_admission import SessionSnapshot
from tests.conftest import Start
from tests.double import Double, expected_text
from tests.integration.test_send_admission import ask, called
from tests.support.service import Served

Between = Callable[[Served], Awaitable[Any]]


def context_of(double: Double, question: str) -> list[tuple[str, str]]:
    """What the model was sent with the question, without the system prompt and the question."""
    contexts: list[Any] = [call.describe()["messages"] for call in double.calls.find()]
    [context] = [context for context in contexts if context[-1]["content"] == question]
    return [(item["role"], item["content"]) for item in context[1:-1]]


async def another(served: Served) -> None:
    await ask(served, "[[tokens=3]] another", session_id="s")


async def edit(served: Served) -> None:
    first = (await served.client.get("/v1/sessions/s/messages")).json()["data"][0]
    edited = {"edit": {"message_id": first["id"], "content": "[[tokens=4]] edited"}}
    assert (await served.client.post("/v1/sessions/s/turns", json=edited)).status_code == 200


async def delete(served: Served) -> None:
    assert (await served.client.delete("/v1/sessions/s")).status_code == 204


async def nothing(served: Served) -> None:
    pass


OLD = [("user", "[[tokens=2]] old"), ("assistant", expected_text(2, 0))]
CASES: list[tuple[Between, list[tuple[str, str]]]] = [
    (nothing, OLD),
    (another, [*OLD, ("user", "[[tokens=3]] another"), ("assistant", expected_text(3, 0))]),
    (edit, [("user", "[[tokens=4]] edited"), ("assistant", expected_text(4, 0))]),
    (delete, []),
]


@pytest.mark.parametrize("budget", [0, 1_000_000])
@pytest.mark.parametrize(("between", "expected"), CASES, ids=[between.__name__ for between, _ in CASES])
async def test_what_happens_between_the_look_and_the_begin_is_in_the_context(
    start: Start,
    double: Double,
    monkeypatch: pytest.MonkeyPatch,
    between: Between,
    expected: list[tuple[str, str]],
    budget: int,
) -> None:
    async with start(budget_tokens_per_day=budget) as served:
        await ask(served, OLD[0][1], session_id="s")
        entry = served.app.state.edge.engine.store.send_admission
        look = entry.read_snapshot

        async def interrupted(*asked: Any) -> SessionSnapshot:
            seen: SessionSnapshot = await look(*asked)
            monkeypatch.setattr(entry, "read_snapshot", look)
            await between(served)
            return seen

        monkeypatch.setattr(entry, "read_snapshot", interrupted)
        answer = await ask(served, "[[tokens=5]] new", session_id="s")
        assert (answer.status_code, answer.text) == (200, expected_text(5, 0))
        assert context_of(double, "[[tokens=5]] new") == expected


@pytest.mark.parametrize("budget", [0, 1_000_000])
async def test_of_a_long_history_the_rest_is_read_afterwards(
    start: Start, double: Double, budget: int
) -> None:
    history = [
        {"role": role, "content": f"{n} " + "word " * 190}
        for n in range(30)
        for role in ("user", "assistant")
    ]
    async with start(budget_tokens_per_day=budget) as served:
        body = {"user_query": "[[tokens=1]] first", "session_id": "s", "history": history}
        await served.client.post("/chat-with-history", json=body)
        reads = await called(ask(served, "[[tokens=1]] second", session_id="s"))
        assert reads == {"look": 1, "enter": 1, "window": 1}  # for the estimate or for the context
        assert context_of(double, "[[tokens=1]] second") == [
            *((item["role"], item["content"]) for item in history),
            ("user", "[[tokens=1]] first"),
            ("assistant", expected_text(1, 0)),
        ]


async def test_what_was_seen_of_the_history_ends_with_the_first_context(start: Start, double: Double) -> None:
    """A second attempt reads it: nothing of a turn's size is kept for as long as the turn runs."""
    async with start() as served:
        await ask(served, OLD[0][1], session_id="s")
        reads = await called(ask(served, "[[tokens=5 fault=500 times=1]] new", session_id="s"))
        assert reads == {"look": 1, "enter": 1, "window": 1}
