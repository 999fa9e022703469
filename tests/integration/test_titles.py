"""Titles by a cheap model: after the first answer, once, in nobody's way, never over a person's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.engine.titles import _cleaned
from service.store.turn_records import TurnRef
from tests.conftest import Start
from tests.double import Double
from tests.integration.test_budgets import settled
from tests.support.service import Served
from tests.support.waiting import eventually_async

SMALL = "openai/gpt-oss-20b"
LARGE = "openai/gpt-oss-120b"


async def say(served: Served, text: str, session: str = "s") -> None:
    answer = await served.client.post(f"/v1/sessions/{session}/turns", json={"content": text})
    assert answer.status_code == 200, answer.text
    assert "event: turn.completed" in answer.text


async def title(served: Served, session: str = "s") -> str | None:
    found = (await served.client.get(f"/v1/sessions/{session}")).json()["title"]
    assert found is None or isinstance(found, str)
    return found


def models(double: Double) -> list[str]:
    return [call.model for call in double.calls]


async def idle(served: Served) -> None:
    """No turn runs, and no title is being found after one."""
    engine: Any = served.app.state.edge.engine
    await eventually_async(lambda: engine.running.idle and not engine._titles._tasks)


async def test_nothing_is_asked_where_no_model_is_named(served: Served, double: Double) -> None:
    await say(served, "[[say=Paris]]")
    await idle(served)
    assert (await title(served), models(double)) == (None, [LARGE])


async def test_the_first_answer_gives_a_title_and_its_cost_is_the_callers(
    start: Start, double: Double
) -> None:
    async with start(title_model=SMALL, budget_tokens_per_day=50_000) as served:
        await say(served, "[[say=Paris]] What is the capital?")
        await idle(served)
        assert (await title(served), models(double)) == ("Paris", [LARGE, SMALL])
        asked: Any = list(double.calls)[1].describe()
        assert asked["messages"][1]["content"] == (
            "User: [[say=Paris]] What is the capital?\n\nAssistant: Paris"
        )
        found = await settled(served, 2)
        assert {row["model"]: row["turns"] for row in found["data"]} == {LARGE: 1, SMALL: 1}
        booked = sum(row["prompt_tokens"] + row["completion_tokens"] for row in found["data"])
        assert found["budgets"]["day"]["used"] == booked
        assert found["budgets"]["day"]["reserved"] == 0
        # It stays, also once a person has taken it off.
        await say(served, "[[say=Rome]]")
        await served.client.patch("/v1/sessions/s", json={"title": ""})
        await say(served, "[[say=Oslo]]")
        await idle(served)
        assert models(double) == [LARGE, SMALL, LARGE, LARGE]


async def test_a_title_counts_as_what_its_session_keeps(start: Start, store: Any) -> None:
    async with start(title_model=SMALL, max_stored_bytes_per_principal=100_000) as served:
        await say(served, "[[say=Paris]]")
        await idle(served)
        assert await title(served) == "Paris"
        held = int(store.hget("chat:{none.anonymous}:stored", "s"))
        assert held == 1_000 + len("Paris") + int(store.hget("chat:{none.anonymous/s}:session", "bytes"))


async def test_what_a_person_has_called_it_stays(start: Start, double: Double) -> None:
    async with start(title_model=SMALL) as served:
        await served.client.post("/v1/sessions", json={"id": "s", "title": "Mine"})
        await say(served, "[[say=Paris]]")
        await idle(served)
        assert (await title(served), models(double)) == ("Mine", [LARGE])
        # One that is given while the model is asked, too; and of two replicas one asks.
        await served.client.post("/v1/sessions", json={"id": "t"})
        titles = served.app.state.edge.engine.store.sessions
        first, second = (TurnRef("none.anonymous", "t", turn_id) for turn_id in ("t_1", "t_2"))
        assert [await titles.wants_title(ref) for ref in (first, second, first)] == [True, False, False]
        await served.client.patch("/v1/sessions/t", json={"title": "Mine too"})
        assert not await titles.give_title(first, "Paris")
        assert await title(served, "t") == "Mine too"
        assert not await titles.give_title(TurnRef("none.anonymous", "gone", "t_1"), "Paris")
        assert (await served.client.get("/v1/sessions/gone")).status_code == 404


async def test_a_session_without_a_name_gets_none(start: Start, double: Double) -> None:
    async with start(title_model=SMALL) as served:
        await served.client.post("/chat", json={"user_query": "[[say=Paris]]"})
        await idle(served)
        assert models(double) == [LARGE]


async def test_a_model_that_refuses_changes_nothing(start: Start, double: Double, tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    table = '[[models]]\nid = "{}"\ncontext_window = 9000\nmax_completion_tokens = 1000\n'
    file.write_text(table.format(LARGE) + table.format("no/such"))
    async with start(title_model="no/such", models_file=file) as served:
        await say(served, "[[say=Paris]]")
        await idle(served)
        assert await title(served) is None
        assert [call.describe()["model"] for call in double.calls] == [LARGE, "no/such"]
        assert [row["model"] for row in (await settled(served, 1))["data"]] == [LARGE]


async def test_a_title_is_in_the_way_of_no_turn_and_a_drain_gives_it_up(start: Start, double: Double) -> None:
    async with start(title_model=SMALL, max_running_turns_per_principal=1) as served:
        engine: Any = served.app.state.edge.engine
        ask, slow = engine._titles._ask, "[[first_delay=60 say=x]]"
        engine._titles._ask = lambda model, ref, text: ask(model, ref, f"{text}\n{slow}")
        await say(served, "[[say=Rome]]")
        await eventually_async(lambda: [call.model for call in double.calls.running] == [SMALL])
        await say(served, "[[say=Oslo]]")
        engine.drain()
        await idle(served)
        await eventually_async(lambda: not double.calls.running)
        assert await title(served) is None
        # The provider bills what it was sent, so it is booked.
        found = {row["model"]: row for row in (await settled(served, 3))["data"]}
        assert (found[LARGE]["turns"], found[SMALL]["turns"]) == (2, 1)
        assert found[SMALL]["prompt_tokens"] > 0


@pytest.mark.parametrize(
    ("said", "cleaned"),
    [
        ('"Capitals of Europe."', "Capitals of Europe"),
        ("\n **Rom**\nzweite Zeile", "Rom"),
        (" \n", ""),
        ("a\u0000b", "ab"),
        ("word " * 40, ("word " * 40)[:79].rstrip() + "\u2026"),
    ],
)
def test_a_title_is_one_short_line(said: str, cleaned: str) -> None:
    assert _cleaned(said) == cleaned
