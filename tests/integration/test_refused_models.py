"""A model that the provider refuses to us is that model's fault: the others, and their callers, go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from service.store.keys import Keys
from tests.conftest import Start
from tests.double import Double, expected_text
from tests.double.faults import Fault
from tests.support.service import Served
from tests.support.waiting import eventually_async

LARGE, SMALL, THIRD = "openai/gpt-oss-120b", "openai/gpt-oss-20b", "qwen/qwen3.8-27b"


async def ask(served: Served, text: str, **body: Any) -> httpx.Response:
    return await served.client.post("/chat", json={"user_query": text, **body})


def called(double: Double) -> list[str]:
    return [call.model for call in double.calls]


async def active(served: Served) -> dict[str, bool]:
    models = (await served.client.get("/v1/models")).json()["data"]
    return {model["id"]: model["active"] for model in models}


async def circuit(served: Served) -> str:
    checks: dict[str, str] = (await served.client.get("/readyz")).json()["checks"]
    return checks["upstream"]


@pytest.mark.parametrize(
    "fault",
    [
        "model_permission_blocked_org",
        "model_permission_blocked_project",
        "403",
        "403_html",
        "model_decommissioned",
        "model_not_found",
    ],
)
async def test_a_refused_model_is_left_out_and_nothing_else_is(
    start: Start, double: Double, fault: str
) -> None:
    double.faults.add(Fault(kind=fault, times=None, model=LARGE))
    async with start() as served, start() as other:
        for number in range(4):
            answer = await ask(served, f"[[tokens=5 seed={number}]]")
            assert (answer.status_code, answer.text) == (200, expected_text(5, number))
        # The first asked both, the others knew.
        assert called(double) == [LARGE, SMALL, SMALL, SMALL, SMALL]
        assert (await served.client.get("/health")).json()["models_unavailable"] == [LARGE]
        shown = await active(served)
        assert [model for model in shown if not shown[model]] == [LARGE]
        assert (await circuit(served), (await served.client.get("/readyz")).status_code) == ("ok", 200)

        async def others_know() -> bool:
            return not (await active(other))[LARGE]

        await eventually_async(others_know)
        assert (await ask(other, "[[tokens=2]] elsewhere")).status_code == 200
        assert called(double).count(LARGE) == 1
        assert await circuit(other) == "ok"


@pytest.mark.parametrize("fault", ["model_permission_blocked_org", "403"])
async def test_a_model_without_a_fallback_is_refused_alone_and_back_with_its_first_answer(
    served: Served, double: Double, fault: str
) -> None:
    safeguard = "openai/gpt-oss-safeguard-20b"
    double.faults.add(Fault(kind=fault, times=5, model=safeguard))
    for _ in range(5):
        refused = await ask(served, "hi", model=safeguard)
        assert (refused.status_code, refused.json()["code"]) == (502, "upstream_unavailable")
        assert (await ask(served, "[[tokens=2]]")).status_code == 200
    assert await circuit(served) == "ok"
    assert not (await active(served))[safeguard]
    assert (await ask(served, "[[tokens=2]]", model=safeguard)).status_code == 200

    async def back() -> bool:
        return (await active(served))[safeguard]

    await eventually_async(back)


@pytest.mark.parametrize("fault", ["403", "403_html"])
async def test_a_403_that_every_model_meets_is_about_the_key(
    served: Served, double: Double, fault: str
) -> None:
    double.faults.add(Fault(kind=fault, times=None))
    assert (await ask(served, "hi")).status_code == 502
    assert called(double) == [LARGE, SMALL, THIRD]

    async def opened() -> bool:
        return await circuit(served) == "auth"

    await eventually_async(opened)
    await ask(served, "hi")
    await ask(served, "hi")

    async def refuses() -> bool:
        before = len(called(double))
        await ask(served, "hi")
        return len(called(double)) == before

    await eventually_async(refuses)
    double.faults.clear()

    async def heals() -> bool:
        return (await ask(served, "[[tokens=2]]")).status_code == 200

    await eventually_async(heals, within=20)


async def test_models_that_are_blocked_one_by_one_are_never_about_the_key(
    served: Served, double: Double
) -> None:
    for model in (LARGE, SMALL):
        double.faults.add(Fault(kind="model_permission_blocked_project", times=None, model=model))
    answer = await ask(served, "[[tokens=3 seed=1]]")
    assert (answer.status_code, answer.text) == (200, expected_text(3, 1))
    assert called(double) == [LARGE, SMALL, THIRD]
    assert await circuit(served) == "ok"


async def test_an_answer_between_two_403_says_that_they_are_not_about_the_key(
    start: Start, double: Double, tmp_path: Path
) -> None:
    """As when one user's words are what a proxy before the provider does not let through."""
    models = tmp_path / "models.toml"
    bounds = "context_window = 131072\nmax_completion_tokens = 65536\n"
    models.write_text("".join(f'[[models]]\nid = "{name}"\n{bounds}' for name in (LARGE, SMALL, THIRD)))
    double.faults.add(Fault(kind="403_html", times=None, contains="odd"))
    async with start(models_file=models) as served:
        for model in (LARGE, SMALL, LARGE, SMALL):
            assert (await ask(served, "odd", model=model)).status_code == 502
            assert (await ask(served, "[[tokens=2]]", model=THIRD)).status_code == 200
            assert await circuit(served) == "ok"
        assert (await ask(served, "odd", model=LARGE)).status_code == 502
        assert (await ask(served, "odd", model=SMALL)).status_code == 502

        async def opened() -> bool:
            return await circuit(served) == "auth"

        await eventually_async(opened)


async def test_a_circuit_that_replicas_of_before_have_opened_is_theirs(
    start: Start, store: redis.Redis, double: Double
) -> None:
    """They open it by any model's 403, and run beside us during a rollout."""
    new = Keys("chat").circuit("")
    old = new.replace(":circuit:key:", ":circuit:")
    assert old != new
    store.hset(old, mapping={"reason": "auth", "until": 2**50, "open": 30_000, "probe": 0, "failures": 9})
    store.expire(old, 600)
    async with start() as served:
        assert (await ask(served, "[[tokens=2]]")).status_code == 200
        assert await circuit(served) == "ok"
