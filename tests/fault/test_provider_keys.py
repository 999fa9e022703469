"""Two API keys of two organisations: both limits are used to their end, and one that dies costs no answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.fault.conftest import Launch
from tests.fault.test_pacing_under_load import SECONDS, ask_together, paced
from tests.support.readers import client
from tests.support.upstream import DoubleProcess
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.fault

ORGANIZATIONS = {"gsk_a0000000": "org_a", "gsk_b0000000": "org_b"}
KEYS = {"GROQ_API_KEYS": "a=gsk_a0000000,b=gsk_b0000000"}
FLOOD, SINGLES = 60, 20


def _asking_for(tokens: int, settings: dict[str, Any]) -> dict[str, Any]:
    models: Path = settings["models_file"]
    text = models.read_text()
    models.write_text(text.replace("default_completion = 400", f"default_completion = {tokens}"))
    return settings


@pytest.mark.timeout(120)
async def test_two_organizations_give_what_both_allow_and_are_hardly_refused(
    launch: Launch, upstream: DoubleProcess, tmp_path: Path
) -> None:
    # So little that a slow machine uses it up: 20 calls a second.
    limits = {"TPM": 8_000, "RPD": 5_000}
    upstream.configure(limits={"*": limits}, organizations=ORGANIZATIONS)
    settings = _asking_for(100, paced(tmp_path)) | KEYS
    urls = [launch(**settings).url, launch(**settings).url]
    seen = await ask_together(urls, upstream, SECONDS, FLOOD, SINGLES)
    both = {kind: 2 * limit for kind, limit in limits.items()}
    assert seen.refused <= 0.02 * seen.calls, f"{seen.refused} of {seen.calls} calls were beyond a limit"
    assert seen.used(both, SECONDS) >= 0.95, seen
    used = {call["organization"] for call in upstream.calls()}
    assert used == {"org_a", "org_b"}


@pytest.mark.timeout(120)
async def test_a_key_that_dies_in_the_middle_of_a_load_fails_nobody(
    launch: Launch, upstream: DoubleProcess, tmp_path: Path
) -> None:
    upstream.configure(organizations=ORGANIZATIONS, require_key=True, api_keys=list(ORGANIZATIONS))
    settings = paced(tmp_path) | KEYS | {"CHAT_PROVIDER_KEY_WEIGHTS": "a=1,b=1", "auth": "none"}
    replicas = [launch(**settings), launch(**settings)]
    statuses: list[int] = []
    over = asyncio.Event()

    async def ask(number: int) -> None:
        async with client() as http:
            count = 0
            while not over.is_set():
                count += 1
                body: dict[str, Any] = {"user_query": f"[[tokens=30 rate=100]] {number} {count}"}
                answer = await http.post(f"{replicas[number % 2].url}/chat", json=body)
                statuses.append(answer.status_code)

    async def die() -> None:
        await eventually_async(lambda: len(statuses) > 40, within=30)
        upstream.configure(api_keys=["gsk_b0000000"])
        at = len(statuses)
        await eventually_async(lambda: len(statuses) > at + 150, within=60)
        over.set()

    await asyncio.gather(die(), *(ask(number) for number in range(16)))
    assert set(statuses) == {200}
    calls = upstream.calls()
    assert {call["organization"] for call in calls if call["status"] == 200} == {"org_a", "org_b"}
    assert any(call["status"] == 401 for call in calls)  # it was in use when it died
    for replica in replicas:
        assert "gsk_" not in replica.log()
        assert '"key":"a"' in replica.log()  # that it is refused is said by its name
