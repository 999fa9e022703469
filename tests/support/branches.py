"""Talking to a session whose history branches: forks, versions, and what its keys live."""

from __future__ import annotations

from typing import Any

import httpx
import redis

from service.store.messages import Message
from tests.support.service import Served


async def say(served: Served, text: str, session: str = "s", **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    body = more or {"content": text}
    answer = await served.client.post(f"/v1/sessions/{session}/turns", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


async def messages(
    served: Served, session: str = "s", headers: dict[str, str] | None = None, **query: Any
) -> list[dict[str, Any]]:
    answer = await served.client.get(
        f"/v1/sessions/{session}/messages", params={"limit": 1000} | query, headers=headers
    )
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def said(served: Served, session: str = "s", headers: dict[str, str] | None = None) -> list[str]:
    return [one["content"] for one in await messages(served, session, headers)]


async def fork(served: Served, through: str, session: str = "s", **headers: str) -> httpx.Response:
    return await served.client.post(
        f"/v1/sessions/{session}/fork", json={"through": through}, headers=headers
    )


async def choose(served: Served, version: str, session: str = "s") -> httpx.Response:
    return await served.client.patch(f"/v1/sessions/{session}", json={"version": version})


async def versions(served: Served, session: str = "s") -> dict[str, list[tuple[str, list[str]]]]:
    """Text of a message -> its earlier versions, with what each says."""
    return {
        one["content"]: [
            (version["id"], [old["content"] for old in version["messages"]]) for version in one["versions"]
        ]
        for one in await messages(served, session, versions=1)
        if one["versions"]
    }


def lives(store: redis.Redis, session: str) -> set[int]:
    """Seconds that the keys of a session have left, to the nearest ten; turns and logs apart."""
    names = [
        name
        for name in store.scan_iter(f"chat:{{*/{session}}}:*")
        if not any(f"}}:{kind}:" in name for kind in ("turn", "log", "idem"))
    ]
    return {round(int(str(store.ttl(name))) / 10) for name in names}


def fill(store: redis.Redis, count: int, size: int = 20) -> None:
    """A long session, as if it had been talked into being."""
    base = "chat:{none.anonymous/s}"
    pipeline = store.pipeline()
    for i in range(count):
        role = ("user", "assistant")[i % 2]
        body = Message(f"m{i}", role, f"{i} " + "x" * size, f"t_{i // 2}", "completed", 1).dump()
        pipeline.zadd(f"{base}:order", {f"m{i}": 2 + i})
        pipeline.hset(f"{base}:messages", f"m{i}", body)
    values = {"created": 1, "updated": 1, "named": 1, "turns": count // 2, "seq": count, "id": "s"}
    pipeline.hset(f"{base}:session", mapping={key: str(value) for key, value in values.items()})
    for name in ("order", "messages", "session"):
        pipeline.expire(f"{base}:{name}", 2_592_000)
    pipeline.execute()
