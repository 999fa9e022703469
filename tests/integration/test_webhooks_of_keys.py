"""The webhook of one API key: told of the turns of this key alone, with a secret and a queue of its own."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest
import redis
from structlog.testing import CapturingLogger

from service.engine import webhooks
from service.store import webhooks as queue
from service.store.turn_records import TurnRef
from tests.conftest import Start
from tests.integration.test_webhooks import SECRET, Receiver
from tests.support.identity import bearer, credentials_of, id_in, make_key
from tests.support.scrape import Scrape
from tests.support.service import Served
from tests.support.waiting import eventually_async

PRIVATE: dict[str, Any] = {"auth": "keys", "webhook_allow_private": True}


async def hook(served: Served, key: str, url: str | None) -> dict[str, Any]:
    admin = await make_key(served, scopes=("admin",))
    answer = await served.client.patch(
        f"/v1/keys/{id_in(key)}", headers=bearer(admin), json={"webhook_url": url}
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def counted(served: Served, outcome: str) -> float:
    """Of this process so far, other tests of it included."""
    metrics = Scrape((await served.client.get("/metrics")).text)
    return metrics.value("chat_webhooks_total", outcome=outcome)


async def ask(served: Served, key: str) -> str:
    answer = await served.client.post(
        "/v1/sessions/s/turns", json={"content": "[[tokens=2]]"}, headers=bearer(key)
    )
    assert answer.status_code == 200, answer.text
    return answer.headers["x-turn-id"]


def signed(secret: str, told: tuple[str, dict[str, str], bytes]) -> bool:
    _, headers, body = told
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    made = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), text, hashlib.sha256).digest()
    return headers["webhook-signature"] == f"v1,{base64.b64encode(made).decode()}"


async def test_a_keys_receiver_is_told_of_its_own_turns_with_its_own_secret(start: Start) -> None:
    of_all, own = Receiver(), Receiver()
    settings = {**PRIVATE, "webhook_url": of_all.url, "webhook_secret": SECRET}
    async with of_all.listening(), own.listening(), start(**settings) as served:
        key, other = await make_key(served, owner="team"), await make_key(served, owner="team")
        secret = (await hook(served, key, own.url))["webhook_secret"]
        others = await ask(served, other)
        turn = await ask(served, key)
        await eventually_async(lambda: own.told and len(of_all.told) == 2, within=15)
    assert [said["data"]["turn_id"] for said in own.said()] == [turn]
    assert {said["data"]["turn_id"] for said in of_all.said()} == {others, turn}
    assert signed(secret, own.told[0])
    assert not signed(SECRET, own.told[0])
    assert all(signed(SECRET, told) for told in of_all.told)


async def test_the_secret_is_shown_once_and_logged_never(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = CapturingLogger()
    monkeypatch.setattr("service.api.routes.keys.audit", lines)
    async with start(**PRIVATE) as served:
        key = await make_key(served)
        url = "https://example.com/hook?token=abc"
        first = await hook(served, key, url)
        second = await hook(served, key, url)
        assert first["webhook_secret"] != second["webhook_secret"]
        admin = bearer(await make_key(served, scopes=("admin",)))
        listed = (await served.client.get("/v1/keys", headers=admin)).text
        assert url in listed
        credential = await credentials_of(served).get(id_in(key))
        gone = await hook(served, key, None)
        assert (gone["webhook_url"], gone["webhook_secret"]) == (None, None)
        for secret in (first["webhook_secret"], second["webhook_secret"]):
            assert secret.startswith("whsec_")
            assert secret not in listed + str(lines.calls) + repr(credential)
        assert [line.kwargs["changed"] for line in lines.calls] == [["webhook_secret", "webhook_url"]] * 3
        assert "token=abc" not in str(lines.calls)
        kept = await credentials_of(served).get(id_in(key))
        assert kept is not None
        assert (kept.webhook_url, kept.webhook_secret) == (None, None)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "https://user:pw@example.com/hook",
        "https://",
        "ftp://example.com",
        "https://example.com/a b",
        "https://example.com/\r\nX: y",
        "https://example.com/" + "a" * 2_000,
        "",
        7,
    ],
    ids=str,
)
async def test_a_bad_address_is_refused_and_changes_nothing(start: Start, url: Any) -> None:
    async with start(auth="keys") as served:
        key = await make_key(served, max_running_turns=3)
        admin = await make_key(served, scopes=("admin",))
        answer = await served.client.patch(
            f"/v1/keys/{id_in(key)}",
            headers=bearer(admin),
            json={"webhook_url": url, "max_running_turns": None},
        )
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        found = await credentials_of(served).get(id_in(key))
        assert found is not None
        assert (found.webhook_url, found.max_running_turns) == (None, 3)


async def test_private_addresses_are_not_called_unless_that_is_allowed(start: Start) -> None:
    receiver = Receiver()
    async with receiver.listening(), start(auth="keys") as served:
        key = await make_key(served)
        await hook(served, key, f"https://127.0.0.1:{receiver.port}/hook")
        before = await counted(served, "failed")
        await ask(served, key)

        async def refused() -> bool:
            return await counted(served, "failed") == before + 1

        await eventually_async(refused, within=15)
    assert receiver.told == []


async def test_a_dead_receiver_fills_its_own_queue_and_costs_no_other_key_anything(
    start: Start, monkeypatch: pytest.MonkeyPatch, store: redis.Redis
) -> None:
    monkeypatch.setattr(queue, "MOST_OF_KEY", 2)
    dead, own = Receiver(), Receiver()  # nobody listens at the first
    async with own.listening(), start(**PRIVATE) as served:
        bad, good = await make_key(served), await make_key(served)
        await hook(served, bad, dead.url)
        await hook(served, good, own.url)
        before = await counted(served, "full")
        for _ in range(4):
            await ask(served, bad)
        turns = [await ask(served, good) for _ in range(2)]
        await eventually_async(lambda: len(own.told) == 2, within=15)
        assert {said["data"]["turn_id"] for said in own.said()} == set(turns)
        assert store.zcard(f"chat:{{webhooks}}:due:{id_in(bad)}") == 2
        assert await counted(served, "full") == before + 2

        async def only_the_dead_waits() -> bool:
            return store.zrange("chat:{webhooks}:keys", 0, -1) == [id_in(bad)]

        await eventually_async(only_the_dead_waits, within=15)
        assert 0 < store.ttl("chat:{webhooks}:keys") <= 7 * 86_400


async def test_what_waits_for_a_key_that_is_revoked_is_dropped(
    start: Start, monkeypatch: pytest.MonkeyPatch, store: redis.Redis
) -> None:
    monkeypatch.setattr(webhooks, "PAUSES", (0.5,) * 1_000)  # it is not given up for its age
    dead = Receiver()
    async with start(**PRIVATE) as served:
        key = await make_key(served)
        await hook(served, key, dead.url)
        await ask(served, key)
        await eventually_async(lambda: bool(store.exists("chat:{webhooks}:keys")), within=15)
        await credentials_of(served).revoke(id_in(key))

        async def dropped() -> bool:
            return not list(store.scan_iter("chat:{webhooks}:*"))

        await eventually_async(dropped, within=15)


async def test_whoever_settles_a_turn_of_another_worker_tells_the_keys_receiver(start: Start) -> None:
    own = Receiver()
    async with own.listening(), start(**PRIVATE) as served:
        key = await make_key(served)
        secret = (await hook(served, key, own.url))["webhook_secret"]
        turn = await ask(served, key)
        await eventually_async(lambda: own.told, within=15)
        engine = served.app.state.edge.engine
        read = await engine.store.turns.get(TurnRef(f"key.{id_in(key)}", "s", turn))
        await engine._booking.book(read, "sweep")
        await eventually_async(lambda: len(own.told) == 2, within=15)
        assert signed(secret, own.told[1])
        assert {headers["webhook-id"] for _, headers, _ in own.told} == {turn}
