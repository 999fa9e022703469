"""One behaviour in every dialect: the same turn, seen through all of them."""

from __future__ import annotations

import asyncio

import pytest

from service.store.log import Log
from tests.conftest import Start
from tests.double import Double, expected_text
from tests.support.dialects import DIALECTS, Dialect
from tests.support.service import Served
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)


async def active_turn(served: Served, session: str = "s") -> str | None:
    answer = await served.client.get(f"/v1/sessions/{session}")
    return answer.json()["active_turn"] if answer.status_code == 200 else None


async def messages(served: Served, session: str = "s") -> list[tuple[str, str, str]]:
    data = (await served.client.get(f"/v1/sessions/{session}/messages")).json()["data"]
    return [(message["role"], message["content"], message["state"]) for message in data]


async def test_the_text_is_exact_and_so_is_the_history(served: Served, dialect: Dialect) -> None:
    asked = "[[tokens=150 seed=5]]"
    answer = await dialect.send(served, asked)
    assert (answer.status, answer.end) == (200, "completed")
    assert answer.text == expected_text(150, 5)
    assert await messages(served) == [
        ("user", asked, "completed"),
        ("assistant", answer.text, "completed"),
    ]


async def test_line_ends_and_signs_of_the_wire_are_text(served: Served, dialect: Dialect) -> None:
    asked = '[[say="data: [DONE]\\n\\nid: 7\\r\\n\\u2028\\u0085event: x\\n\\n"]]'
    answer = await dialect.send(served, asked)
    assert (answer.text, answer.end) == ("data: [DONE]\n\nid: 7\r\n\u2028\u0085event: x\n\n", "completed")


async def test_a_refusal_before_the_first_byte(served: Served, dialect: Dialect) -> None:
    answer = await dialect.send(served, "[[fault=400 tokens=5]]")
    if dialect.name == "native":
        assert (answer.status, answer.end) == (200, "failed")
    else:
        assert (answer.status, answer.end) == (400, "refused")
        assert "The model refused the request: " in answer.body


async def test_a_failure_in_mid_answer_never_looks_like_an_answer(served: Served, dialect: Dialect) -> None:
    asked = "[[tokens=60 fault=cut after=30 rate=200]]"
    answer = await dialect.send(served, asked)
    if dialect.whole:
        assert (answer.status, answer.end) == (502, "refused")
        return
    assert answer.status == 200
    assert answer.end == ("broken" if dialect.name == "text" else "failed")
    assert answer.text == expected_text(30)
    assert (await messages(served))[1:] == [("assistant", expected_text(30), "failed")]


async def test_a_stop_keeps_what_was_shown(served: Served, dialect: Dialect) -> None:
    asked = "[[tokens=2000 rate=100 seed=2]]"
    sending = asyncio.create_task(dialect.send(served, asked))
    turn = await eventually_async(lambda: active_turn(served))
    path = f"/v1/sessions/s/turns/{turn}"

    async def begun() -> bool:
        return len((await served.client.get(path)).json()["text"]) > 20

    await eventually_async(begun)
    stopped = (await served.client.post(f"{path}/stop")).json()
    answer = await asyncio.wait_for(sending, 10)
    assert answer.status == 200
    assert answer.end in ("completed", "stopped")
    assert answer.text == stopped["text"]
    assert expected_text(2000, 2).startswith(answer.text)


async def test_a_stop_before_the_first_token_is_an_empty_answer(served: Served, dialect: Dialect) -> None:
    sending = asyncio.create_task(dialect.send(served, "[[tokens=5 header_delay=30]]"))
    turn = await eventually_async(lambda: active_turn(served))
    stopped = await served.client.post(f"/v1/sessions/s/turns/{turn}/stop")
    assert stopped.json()["state"] == "stopped"
    answer = await asyncio.wait_for(sending, 10)
    assert (answer.status, answer.text) == (200, "")
    assert answer.end in ("completed", "stopped")


async def lose_the_worker(served: Served, turn: str, begun: asyncio.Event) -> None:
    """The turn's runner ends without a trace, as when its host is lost; the lease lapses."""
    await asyncio.wait_for(begun.wait(), 10)
    served.app.state.edge.engine.running._lives[turn].interrupt("lost host")


async def test_two_samples_are_never_spliced_when_a_worker_is_lost(start: Start, dialect: Dialect) -> None:
    asked = "[[tokens=240 rate=80 vary]]"
    async with start(lease_seconds=0.5) as served:
        begun = asyncio.Event()
        sending = asyncio.create_task(
            dialect.send(served, asked, shown=lambda text: begun.set() if len(text) > 40 else None)
        )
        turn = await eventually_async(lambda: active_turn(served))
        if dialect.whole:
            await eventually_async(
                lambda: served.app.state.edge.engine.running._lives[turn].acknowledged > 20
            )
            begun.set()
        await lose_the_worker(served, turn, begun)
        answer = await asyncio.wait_for(sending, 20)
        if dialect.replaces_text:
            assert (answer.text, answer.end) == (expected_text(240, 1), "completed")
        else:
            assert answer.end == ("failed" if dialect.name in ("openai", "responses") else "broken")
            assert expected_text(240, 0).startswith(answer.text)
        await eventually_async(lambda: _sealed(served, turn), within=20)
        assert (await messages(served))[1:] == [("assistant", expected_text(240, 1), "completed")]


async def _sealed(served: Served, turn: str) -> bool:
    state: str = (await served.client.get(f"/v1/sessions/s/turns/{turn}")).json()["state"]
    return state == "completed"


async def test_a_repeat_after_a_restart_is_the_whole_new_answer(
    start: Start, dialect: Dialect, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the void text is: a repeat is not shown it, so it cannot break on it again."""
    # A page of 5 events: one of 500 would need a machine that writes so many in time.
    for reads in (Log.read, Log._read):
        monkeypatch.setattr(reads, "__defaults__", (5,))
    for module in ("service.store.log", "service.engine.reader"):
        monkeypatch.setattr(f"{module}.PAGE", 5)
    asked = "[[tokens=1500 vary]]"
    async with start(lease_seconds=0.5, flush_window_seconds=0.0) as served:
        double.configure(double.settings.changed({"rate": 40}))  # 37 s for what is to happen before its end
        key = {"Idempotency-Key": "k"}
        begun = asyncio.Event()
        sending = asyncio.create_task(dialect.send(served, asked, headers=key))
        turn = await eventually_async(lambda: active_turn(served))
        live = served.app.state.edge.engine.running._lives[turn]
        await eventually_async(lambda: live.acknowledged > 8, within=30)  # more than a page of the log
        double.configure(double.settings.changed({"rate": 0}))
        begun.set()
        await lose_the_worker(served, turn, begun)
        await asyncio.wait_for(sending, 20)
        answer = await asyncio.wait_for(dialect.send(served, asked, headers=key), 20)
        assert (answer.text, answer.end) == (expected_text(1500, 1), "completed")
        assert len([call for call in double.calls if asked.encode() in call.body]) == 2


async def test_a_repeat_attaches_to_the_turn_and_starts_no_other(
    served: Served, dialect: Dialect, double: Double
) -> None:
    asked = "[[tokens=60 rate=300 seed=8]]"
    key = {"Idempotency-Key": "once"}
    first, second = await asyncio.gather(
        dialect.send(served, asked, headers=key), dialect.send(served, asked, headers=key)
    )
    third = await dialect.send(served, asked, headers=key)
    assert [first, second, third] == [first] * 3
    assert (first.text, first.end) == (expected_text(60, 8), "completed")
    assert len(list(double.calls)) == 1
    refused = await dialect.send(served, "another message", headers=key)
    assert refused.status == 409


async def test_a_failure_with_nothing_shown_frees_the_key(
    served: Served, dialect: Dialect, double: Double
) -> None:
    asked = "[[tokens=10 seed=1 fault=400 times=1]]"
    key = {"Idempotency-Key": "again"}
    first = await dialect.send(served, asked, headers=key)
    assert first.end in ("refused", "failed")
    second = await dialect.send(served, asked, headers=key)
    assert (second.text, second.end) == (expected_text(10, 1), "completed")


async def test_a_failure_after_reasoning_frees_the_key_where_none_is_shown(
    served: Served, dialect: Dialect
) -> None:
    asked = "[[reasoning=6 tokens=10 seed=1 fault=cut after=3 times=1]]"
    key = {"Idempotency-Key": "again"}
    first = await dialect.send(served, asked, headers=key)
    second = await dialect.send(served, asked, headers=key)
    assert first.end in ("refused", "failed", "broken")
    if dialect.name in ("text", "responses") or dialect.whole:
        assert (second.text, second.end) == (expected_text(10, 1), "completed")
    else:
        assert second == first


async def test_a_client_that_leaves_does_not_end_its_session_s_answer(start: Start, dialect: Dialect) -> None:
    async with start(orphan_seconds=0.2) as served:
        sending = asyncio.create_task(dialect.send(served, "[[tokens=50 rate=50 seed=3]]"))
        await eventually_async(lambda: active_turn(served))
        sending.cancel()

        async def answered() -> bool:
            return len(await messages(served)) == 2

        await eventually_async(answered, within=20)
        assert (await messages(served))[1] == ("assistant", expected_text(50, 3), "completed")
