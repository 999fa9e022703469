"""The governor in a served service: waits, fails over, refuses honestly, and knows a bad key."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.engine.pacing import learned_limits
from service.store import pacing
from tests.conftest import Start
from tests.double import Double, expected_text
from tests.double.faults import Fault
from tests.support.service import Served
from tests.support.waiting import eventually_async

LARGE, SMALL = "openai/gpt-oss-120b", "openai/gpt-oss-20b"


async def ask(served: Served, text: str, **body: Any) -> httpx.Response:
    return await served.client.post("/chat", json={"user_query": text, **body})


def models_called(double: Double) -> list[str]:
    return [call.model for call in double.calls]


def limits(double: Double, **kinds: int) -> None:
    double.configure(double.settings.changed({"limits": {"*": kinds}}))


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A catalogue whose only model has no fallback."""
    path = tmp_path / "models.toml"
    path.write_text(f'[[models]]\nid = "{LARGE}"\ncontext_window = 131072\nmax_completion_tokens = 65536\n')
    return path


async def test_a_day_that_is_used_up_moves_everybody_to_the_fallback(start: Start, double: Double) -> None:
    double.faults.add(Fault(kind="429_rpd", model=LARGE, retry_after=3_600))
    async with start() as first, start() as second:
        answer = await ask(first, "[[tokens=5 seed=1]]")
        assert (answer.status_code, answer.text) == (200, expected_text(5, 1))
        assert models_called(double) == [LARGE, SMALL]
        assert (await ask(second, "[[tokens=5]] on the other replica")).status_code == 200
        assert models_called(double) == [LARGE, SMALL, SMALL]


async def test_without_a_model_that_has_room_the_answer_says_when_to_come_back(
    start: Start, double: Double, alone: Path
) -> None:
    double.faults.add(Fault(kind="429_tpd", retry_after=100))
    async with start(models_file=alone) as served:
        for _ in range(2):
            answer = await ask(served, "[[tokens=5]]")
            assert (answer.status_code, answer.json()["code"]) == (429, "upstream_rate_limited")
            assert 95 <= int(answer.headers["retry-after"]) <= 100
        assert len(list(double.calls)) == 1  # the second was not even tried


async def test_a_limit_that_ends_in_time_is_waited_for(start: Start, double: Double, alone: Path) -> None:
    double.faults.add(Fault(kind="429_rpm", retry_after=0.7))
    async with start(models_file=alone) as served:
        begin = time.monotonic()
        answer = await ask(served, "[[tokens=5 seed=2]]")
        assert (answer.status_code, answer.text) == (200, expected_text(5, 2))
        assert time.monotonic() - begin >= 0.7
        first, second = double.calls
        assert second.started - first.started >= 0.69


async def test_a_stop_ends_the_wait(start: Start, double: Double, alone: Path) -> None:
    double.faults.add(Fault(kind="429_rpm", retry_after=9))
    async with start(models_file=alone) as served:
        begun = await served.client.post(
            "/v1/sessions/s/turns", json={"content": "hi"}, headers={"Prefer": "respond-async"}
        )
        await eventually_async(lambda: len(list(double.calls)) == 1)
        stopped = await served.client.post(f"{begun.headers['location']}/stop")
        assert stopped.json()["state"] == "stopped"
        assert len(list(double.calls)) == 1


async def test_an_account_with_a_small_limit_is_asked_for_what_fits(
    start: Start, double: Double, alone: Path
) -> None:
    """The free tier: 8000 tokens a minute, and a default of 8192 that never fits."""
    limits(double, TPM=8_000)
    async with start(models_file=alone) as served:
        first = await ask(served, "[[tokens=5 seed=3]]")
        assert (first.status_code, first.text) == (200, expected_text(5, 3))
        await ask(served, "[[tokens=5]] again")
    asked = [(call.status, call.describe()["params"]["max_completion_tokens"]) for call in double.calls]
    assert asked == [(413, 8192), (200, 2000), (200, 2000)]


@pytest.mark.parametrize("settles", [0.0, learned_limits._SETTLE_SECONDS])
async def test_what_a_caller_asks_for_is_not_cut_while_it_fits(
    start: Start, double: Double, alone: Path, monkeypatch: pytest.MonkeyPatch, settles: float
) -> None:
    """Also where the others are told of an answer's head and of its end at once."""
    monkeypatch.setattr(learned_limits, "_SETTLE_SECONDS", settles)
    limits(double, TPM=8_000)
    async with start(models_file=alone) as served:
        for _ in range(2):
            answer = await served.client.post(
                "/v1/sessions/s/turns",
                json={"content": "[[tokens=5]]", "params": {"max_completion_tokens": 7_000}},
            )
            assert answer.status_code == 200
            assert "turn.completed" in answer.text
            # The double counts what a call has not used when it has closed it: behind its last byte.
            await eventually_async(lambda: not double.calls.running)
    asked = [call.describe()["params"]["max_completion_tokens"] for call in double.calls]
    assert asked == [7_000, 7_000]


async def test_waiting_calls_go_as_soon_as_others_have_given_back(
    start: Start, double: Double, alone: Path
) -> None:
    """20,000 tokens a minute, 30 calls that could take 4000 each and take 30: no refusal."""
    limits(double, TPM=20_000)
    params = {"max_completion_tokens": 4_000}
    async with start(models_file=alone) as served:
        answers = await asyncio.gather(
            *(
                served.client.post(
                    f"/v1/sessions/s{n}/turns",
                    json={"content": f"[[tokens=10 rate=100]] {n}", "params": params},
                )
                for n in range(30)
            )
        )
        assert all("turn.completed" in answer.text for answer in answers)
    assert [call.status for call in double.calls] == [200] * 30


async def test_a_bad_key_is_shown_refuses_without_a_call_and_heals(
    start: Start, double: Double, alone: Path
) -> None:
    async with start(models_file=alone) as served, start(models_file=alone) as other:
        double.configure(double.settings.changed({"require_key": True, "api_keys": ["another"]}))
        answers = [await ask(served, "hi") for _ in range(3)]
        assert {answer.json()["code"] for answer in answers} == {"upstream_unavailable"}

        async def known(to: Served) -> tuple[int, str]:
            ready = await to.client.get("/readyz")
            return ready.status_code, ready.json()["checks"]["upstream"]

        async def refused_here() -> bool:
            """What a call has found out is told beside it."""
            return await known(served) == (503, "auth")

        await eventually_async(refused_here)

        async def other_refuses() -> bool:
            """It looks once a second, and may have looked between the first failure and the third."""
            return "retry-after" in (await ask(other, "hi")).headers

        await eventually_async(other_refuses)
        assert (await other.client.get("/readyz")).status_code == 503

        calls = len(list(double.calls))
        refused = await ask(other, "hi")
        assert (refused.status_code, refused.json()["code"]) == (502, "upstream_unavailable")
        assert 1 <= int(refused.headers["retry-after"]) <= 5
        assert len(list(double.calls)) == calls
        double.configure(double.settings.changed({"require_key": False}))

        # Once it may be tried again it is ready, and says until a call has succeeded what it knows.
        async def may_be_tried() -> bool:
            return await known(other) == (200, "auth (may be tried)")

        await eventually_async(may_be_tried, within=10)

        async def heals() -> bool:
            return (await ask(other, "[[tokens=2]]")).status_code == 200

        await eventually_async(heals, within=15)

        async def all_know() -> bool:
            return [await known(one) for one in (other, served)] == [(200, "ok")] * 2

        await eventually_async(all_know)


async def test_what_is_known_of_the_provider_outlives_the_workers_that_learned_it(
    start: Start, double: Double, alone: Path
) -> None:
    """A reload, or a new replica, does not make a refused key look well."""
    double.configure(double.settings.changed({"require_key": True, "api_keys": ["another"]}))

    async def upstream(served: Served) -> str:
        return str((await served.client.get("/readyz")).json()["checks"]["upstream"])

    async def says(served: Served, *words: str) -> None:
        """What a call has found out is told beside it."""

        async def told() -> bool:
            return await upstream(served) in words

        await eventually_async(told)

    async with start(models_file=alone) as first:
        assert await upstream(first) == "ok"  # nothing was asked yet, and nothing is known against it
        await ask(first, "hi")
        await says(first, "auth")
    async with start(models_file=alone) as second:
        await says(second, "auth", "auth (may be tried)")
        double.configure(double.settings.changed({"require_key": False}))

        async def heals() -> bool:
            return (await ask(second, "[[tokens=2]]")).status_code == 200

        await eventually_async(heals, within=15)
        await says(second, "ok")
    async with start(models_file=alone) as third:
        assert await upstream(third) == "ok"


async def test_one_refused_key_is_shown_and_holds_up_nobody(served: Served, double: Double) -> None:
    assert (await ask(served, "[[fault=401 times=1]] x")).status_code == 502
    assert (await served.client.get("/readyz")).json()["checks"]["upstream"] == "auth"
    assert (await ask(served, "[[tokens=2]]")).status_code == 200

    async def ready() -> bool:
        return (await served.client.get("/readyz")).status_code == 200

    await eventually_async(ready)


@pytest.mark.parametrize("ends", ["a failure of the provider", "a stop before the head"])
async def test_a_try_that_shows_nothing_of_the_key_holds_up_no_other(
    start: Start, double: Double, alone: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """The one call that may try a refused key again had kept all others away for 15 s, however it ended."""
    monkeypatch.setattr(pacing, "_FIRST_OPEN_MS", 300)
    async with start(models_file=alone) as served:
        double.configure(double.settings.changed({"require_key": True, "api_keys": ["another"]}))
        for _ in range(3):
            await ask(served, "hi")
        double.configure(double.settings.changed({"require_key": False}))

        async def may_be_tried() -> bool:
            found = (await served.client.get("/readyz")).json()["checks"]["upstream"]
            return bool(found == "auth (may be tried)")

        await eventually_async(may_be_tried, within=10)
        before = len(list(double.calls))
        if "stop" in ends:
            double.faults.add(Fault(kind="hang"))
            begun = await served.client.post(
                "/v1/sessions/s/turns", json={"content": "hi"}, headers={"Prefer": "respond-async"}
            )
            await eventually_async(lambda: len(list(double.calls)) == before + 1)
            await served.client.post(f"{begun.headers['location']}/stop")
        else:
            for _ in range(3):
                double.faults.add(Fault(kind="500"))
            assert (await ask(served, "hi")).status_code == 502
            assert len(list(double.calls)) == before + 3  # none of them was refused by the circuit

        async def heals() -> bool:
            return (await ask(served, "[[tokens=2]]")).status_code == 200

        await eventually_async(heals, within=5)
