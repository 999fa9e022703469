"""Several API keys in a served service: limits and dead keys move calls on, files are read again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.conftest import Start
from tests.double import Double, expected_text
from tests.integration.test_governor import alone, ask
from tests.support.service import Served
from tests.support.waiting import eventually_async

__all__ = ["alone"]  # a fixture

ORGANIZATIONS = {"gsk_a0000000": "org_a", "gsk_b0000000": "org_b"}
KEYS = "a=gsk_a0000000,b=gsk_b0000000"


@pytest.fixture
def orgs(double: Double) -> Double:
    double.configure(double.settings.changed({"organizations": ORGANIZATIONS}))
    return double


def change(double: Double, **wishes: Any) -> None:
    double.configure(double.settings.changed(wishes))


def asked(double: Double) -> list[tuple[str, int]]:
    return [(call.organization, call.status) for call in double.calls]


async def states(served: Served) -> dict[str, str]:
    found = (await served.client.get("/health")).json()["provider_keys"]
    return {key["name"]: key["state"] for key in found}


async def test_a_limit_of_one_organization_moves_calls_to_the_key_of_another(
    start: Start, orgs: Double, alone: Path
) -> None:
    change(orgs, limits={"*": {"RPM": 1}})
    async with (
        start(GROQ_API_KEYS=KEYS, models_file=alone) as first,
        start(GROQ_API_KEYS=KEYS, models_file=alone) as second,
    ):
        answers = [await ask(served, "[[tokens=3 seed=1]]") for served in (first, second)]
        assert [answer.text for answer in answers] == [expected_text(3, 1)] * 2
    assert [found for found in asked(orgs) if found[1] == 200] == [("org_a", 200), ("org_b", 200)]
    assert [found for found in asked(orgs) if found[1] != 200] in ([], [("org_a", 429)])


async def test_a_dead_key_costs_no_answer_and_is_shown_by_its_name(
    start: Start, orgs: Double, alone: Path, store: redis.Redis
) -> None:
    change(orgs, require_key=True, api_keys=["gsk_b0000000"])
    async with start(GROQ_API_KEYS=KEYS, models_file=alone) as served:
        for _ in range(5):
            assert (await ask(served, "[[tokens=3 seed=1]]")).text == expected_text(3, 1)
        assert await states(served) == {"a": "auth", "b": "ok"}
        ready = await served.client.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["upstream"]) == (200, "ok")
        metrics = (await served.client.get("/metrics")).text
        assert 'chat_provider_key_up{key="a"} 0.0' in metrics
        assert 'chat_provider_key_up{key="b"} 1.0' in metrics
        assert 'chat_upstream_circuit_open{reason="auth"} 0.0' in metrics
        assert "gsk_" not in metrics
        assert not [name for name in store.scan_iter("*") if "gsk_" in name]
    refused = [found for found in asked(orgs) if found[1] == 401]
    assert 1 <= len(refused) <= 3  # the third in a row opens its circuit


async def test_with_every_key_dead_calls_are_refused_as_with_one(
    start: Start, orgs: Double, alone: Path
) -> None:
    change(orgs, require_key=True, api_keys=["gsk_other"])
    async with start(GROQ_API_KEYS=KEYS, models_file=alone) as served:
        codes = {(await ask(served, "hi")).json()["code"] for _ in range(4)}
        assert codes == {"upstream_unavailable"}
        calls = len(asked(orgs))
        assert (await ask(served, "hi")).status_code == 502
        assert len(asked(orgs)) == calls  # nobody was asked

        async def shown() -> bool:
            text = (await served.client.get("/metrics")).text
            return 'chat_upstream_circuit_open{reason="auth"} 1.0' in text

        await eventually_async(shown)


async def test_a_single_key_file_that_is_replaced_is_used_without_a_restart(
    start: Start, orgs: Double, alone: Path, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "groq_api_key").write_text("gsk_dead0000\n")
    change(orgs, require_key=True, api_keys=["gsk_b0000000"])
    async with start(secrets_dir=secrets, GROQ_API_KEY="gsk_dead0000", models_file=alone) as served:
        assert (await ask(served, "hi")).status_code == 502
        assert list(await states(served)) == ["default"]
        (secrets / "new").write_text("gsk_b0000000\n")
        os.replace(secrets / "new", secrets / "groq_api_key")

        async def works() -> bool:
            return (await ask(served, "[[tokens=3]]")).status_code == 200

        await eventually_async(works, within=15)
        assert await states(served) == {"default": "ok"}


async def test_keys_are_added_and_taken_away_by_their_file(
    start: Start, orgs: Double, alone: Path, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text("a=gsk_a0000000\n")
    async with start(GROQ_API_KEYS_FILE=file, models_file=alone) as served:
        assert await states(served) == {"a": "ok"}
        file.write_text("# moved\nb=gsk_b0000000\n")

        async def seen() -> bool:
            return await states(served) == {"b": "ok"}

        await eventually_async(seen, within=15)
        assert (await ask(served, "[[tokens=3]]")).status_code == 200
        metrics = (await served.client.get("/metrics")).text
        assert 'chat_provider_key_up{key="a"} -1.0' in metrics  # nothing that an alert is for
        assert 'chat_provider_key_up{key="b"} 1.0' in metrics
    assert asked(orgs)[-1] == ("org_b", 200)
