"""docs/keys.md against the code, both ways, and against what a busy service leaves in a real Redis."""

from __future__ import annotations

import asyncio
import re
from inspect import signature

import pytest
import redis

from service.store.keys import Keys, PrincipalKeys, SessionKeys
from service.store.principals import Entry
from tests.conftest import Start
from tests.docs.pages import code, rows
from tests.support.identity import bearer, make_key
from tests.support.running import ROOT
from tests.support.service import Served
from tests.support.waiting import eventually_async

PAGE = ROOT / "docs" / "keys.md"
#: with replicas that are waited for, on a Cluster, within a script, with a webhook
NOT_SEEN = {
    "chat:fence:<n>",
    "chat:turns:deadlines:{<tag>}",
    "chat:{upstream}:pace_of:<hash>:<model>",
    "chat:{<principal>/<session>}:log:<turn>:copy",
    "chat:{webhooks}:due",
    "chat:{webhooks}:said",
    "chat:{webhooks}:due:<key>",
    "chat:{webhooks}:said:<key>",
    "chat:{webhooks}:keys",
}
TABLES = ("A session", "A principal", "All replicas")


def documented() -> dict[str, tuple[str, str]]:
    """Pattern of a key -> (type, TTL)."""
    return {code(key)[0]: (kind, ttl) for table in TABLES for key, kind, ttl, _ in rows(PAGE, table)}


def expression(pattern: str) -> re.Pattern[str]:
    """The keys that a documented pattern stands for; `<hash>` is 32 hexadecimal digits."""
    parts = re.split(r"(<\w+>)", pattern)
    kinds = {
        "<hash>": "[0-9a-f]{32}",
        "<seconds>": "[0-9]+",
        "<date>": r"\d{4}-\d\d-\d\d",
        "<model>": "[^:{}]+",
    }
    return re.compile(
        "".join(kinds.get(part, r"[^/{}]+") if part.startswith("<") else re.escape(part) for part in parts)
    )


def matches(key: str) -> list[str]:
    """The narrowest pattern that a key fits: the one with the most fixed characters."""
    found = [pattern for pattern in documented() if expression(pattern).fullmatch(key)]
    return sorted(found, key=lambda pattern: -len(re.sub(r"<\w+>", "", pattern)))[:1]


def samples(keys: Keys | PrincipalKeys | SessionKeys) -> dict[str, str]:
    """A key of each kind, as the code builds it; channels too."""
    values = {"seconds": 60, "window": "moving", "date": "2026-11-23", "period": "day"}
    # `base` is no key, but what others have in common.
    found = {name: key for name, key in vars(keys).items() if name not in ("prefix", "base")}
    for name, member in vars(type(keys)).items():
        if callable(member) and not name.startswith("_") and name not in ("session", "principal"):
            wanted = [item for item in signature(member).parameters if item != "self"]
            found[name] = getattr(keys, name)(*(values.get(item, item) for item in wanted))
    return found


def built() -> dict[str, str]:
    of_principal, of_session = PrincipalKeys("chat", "p"), SessionKeys("chat", "p", "s")
    return {**samples(Keys("chat")), **samples(of_principal), **samples(of_session)}


def test_every_key_that_the_code_builds_is_documented() -> None:
    channels = [code(row[0])[0] for row in rows(PAGE, "Channels")]
    for name, key in built().items():
        channel = any(expression(pattern).fullmatch(key) for pattern in channels)
        assert matches(key) or (channel and name == "worker_channel"), (
            f"{name} ({key}) is not in docs/keys.md"
        )


def test_every_documented_key_is_built_somewhere() -> None:
    keys = [*built().values(), Keys("chat").principal("p").limit("sends", "fixed", 60)]
    for pattern in documented():
        assert any(matches(key) == [pattern] for key in keys), f"nothing builds {pattern}"


def test_the_permanent_keys_are_those_without_a_ttl() -> None:
    text = PAGE.read_text().partition("## Permanent keys")[2].partition("##")[0]
    named = {name for name in code(text) if name.startswith("chat:")}
    assert named == {pattern for pattern, (_, ttl) in documented().items() if ttl.startswith("none")}


async def _use(served: Served, store: redis.Redis, key: str) -> None:
    """Everything that makes keys: turns of every kind, a queue, limits, a budget, an edit."""
    client, mine = served.client, bearer(key)
    turns = "/v1/sessions/s/turns"

    async def ask(path: str, body: object, **more: str) -> int:
        answer = await client.post(path, json=body, headers={**mine, **more})
        return answer.status_code

    await served.app.state.edge.principals.set(Entry("jwt.alice", "alice"))
    assert await ask("/chat", {"user_query": "one"}) == 200
    assert await ask("/chat", {"user_query": "two", "session_id": "s"}, **{"Idempotency-Key": "k"}) == 200
    running = client.post(turns, json={"content": "[[tokens=400 rate=100]]"}, headers=mine)
    task = asyncio.create_task(running)
    await eventually_async(lambda: _active(served, key))
    queued = asyncio.create_task(ask(turns, {"content": "next", "on_busy": "queue"}))
    await eventually_async(lambda: bool(list(store.scan_iter("*:queue"))))
    assert (
        await ask(
            "/api/chat",
            {
                "id": "u",
                "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "three"}]}],
            },
        )
        == 200
    )
    assert await ask("/v1/chat/completions", {"messages": [{"role": "user", "content": "four"}]}) == 200
    assert (
        await client.post(f"{turns}/{await _active(served, key)}/ticket", headers=mine)
    ).status_code == 200
    assert (await client.get("/v1/sessions", headers=mine)).status_code == 200
    await task
    assert await queued == 200


async def _active(served: Served, key: str) -> str | None:
    answer = await served.client.get("/v1/sessions/s", headers=bearer(key))
    found: str | None = answer.json().get("active_turn")
    return found


@pytest.mark.parametrize("window", ["moving", "fixed"])
async def test_what_a_busy_service_keeps_is_documented_and_ends_or_is_permanent(
    start: Start, store: redis.Redis, window: str
) -> None:
    seen: dict[str, tuple[str, int]] = {}

    def look() -> None:
        for key in store.scan_iter("*"):
            kind = str(store.type(key)).replace("zset", "sorted set")
            if kind != "none":
                seen[key] = (kind, store.pttl(key))  # -1: none, -2: gone since, 0: in its last ms

    async with start(
        auth="keys",
        limit_sends="100/minute",
        limit_reads="1000/minute",
        limit_window=window,
        budget_tokens_per_day=1_000_000,
        budget_money_per_day="1000",
        max_running_turns_per_principal=10,
    ) as served:
        key = await make_key(served)
        using = asyncio.create_task(_use(served, store, key))
        while not using.done():
            look()
            await asyncio.sleep(0.02)  # between two looks: some keys are there for moments
        await using
        look()
        await served.client.post("/chat", json={"user_query": "[[fault=401]]"}, headers=bearer(key))
        look()
    assert seen
    for name, (kind, ttl) in seen.items():
        pattern = matches(name)
        assert pattern, f"{name} is not in docs/keys.md"
        said_kind, said_ttl = documented()[pattern[0]]
        assert kind == said_kind, f"{name} is a {kind}"
        assert ttl != -1 or said_ttl.startswith("none"), f"{name} would stay for ever"
    met = {matches(name)[0] for name in seen}
    other = "fixed" if window == "moving" else "moving"
    missed = {p for p in documented() if p not in met and f":{other}:" not in p}
    assert missed == NOT_SEEN
