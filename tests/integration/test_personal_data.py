"""All of a person: exported as one document, erased with a receipt, and nobody else's touched."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import redis

from service.cli import erase as erase_cli
from service.cli.listening import Refused
from service.config.settings import Settings
from service.engine import erasing
from service.errors import ServiceError
from tests.conftest import Start
from tests.integration.test_turns import SLOW, begin
from tests.support import branches
from tests.support.identity import bearer, id_in, make_key
from tests.support.service import Served
from tests.support.waiting import eventually_async

Headers = dict[str, str]


async def shown(served: Served, running: httpx.Response, headers: Headers) -> None:
    """There is some text of the answer: a stop then leaves a message of it."""
    path = running.headers["location"]

    async def text() -> Any:
        return (await served.client.get(path, headers=headers)).json()["text"]

    await eventually_async(text)


async def say(served: Served, text: str, headers: Headers, session: str | None = None) -> str:
    """An exchange, in a session of its own where none is named; returns the session."""
    body = {"user_query": text} | ({"session_id": session} if session else {})
    answer = await served.client.post("/chat", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-session-id"]


async def export(served: Served, headers: Headers, **query: str) -> dict[str, Any]:
    answer = await served.client.get("/v1/export", headers=headers, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def erase(served: Served, headers: Headers, **query: str) -> httpx.Response:
    return await served.client.delete("/v1/sessions", headers=headers, params=query)


def keys_of(store: redis.Redis, principal: str) -> list[str]:
    return sorted(store.scan_iter(f"chat:{{{principal}/*"))


def texts(exported: dict[str, Any]) -> dict[str, list[str]]:
    return {
        one["session"]["id"]: [message["content"] for message in one["messages"]]
        for one in exported["sessions"]
    }


@pytest.mark.parametrize(
    "bound", [{}, {"max_sessions_per_principal": 0, "max_stored_bytes_per_principal": 0}]
)
async def test_an_export_has_every_session_once_those_without_a_name_too(
    start: Start, bound: dict[str, int]
) -> None:
    async with start(auth="keys", **bound) as served:
        mine, other = bearer(await make_key(served, owner="me")), bearer(await make_key(served, owner="you"))
        for session in ("a", "b"):
            await say(served, f"[[say=yes]] {session}", mine, session)
        await say(served, "[[say=no]] again", mine, "a")
        nameless = await say(served, "[[say=who]] nameless", mine)
        await say(served, "[[say=not yours]]", other, "a")
        exported = await export(served, mine)
        assert texts(exported) == {
            "a": ["[[say=yes]] a", "yes", "[[say=no]] again", "no"],
            "b": ["[[say=yes]] b", "yes"],
            nameless: ["[[say=who]] nameless", "who"],
        }
        assert len(exported["sessions"]) == 3
        assert exported["principal"] == "owner.me"
        [day] = exported["usage"]
        assert day["turns"] == 4
        alone = (await served.client.get("/v1/sessions/a/export", headers=mine)).json()
        assert alone in exported["sessions"]
        # An export names nobody and keeps nothing longer than it would have been.
        listed = (await served.client.get("/v1/sessions", headers=mine)).json()["data"]
        assert {session["id"] for session in listed} == {"a", "b"}


async def test_an_export_of_nothing_is_an_empty_document(served: Served) -> None:
    exported = await export(served, {})
    assert exported | {"created": 0} == {
        "object": "export",
        "principal": "none.anonymous",
        "created": 0,
        "usage": [],
        "sessions": [],
    }


async def test_a_long_session_is_exported_whole_in_its_order(served: Served) -> None:
    history = [
        {"role": "user" if i % 2 == 0 else "assistant", "content": f"{i} " + "x" * 3_000} for i in range(600)
    ]
    for session in ("first", "second"):
        body = {"user_query": "[[say=end]]", "session_id": session, "history": history[:20]}
        assert (await served.client.post("/chat-with-history", json=body)).status_code == 200
    exported = texts(await export(served, {}))
    assert exported == dict.fromkeys(
        ("first", "second"), [item["content"] for item in history[:20]] + ["[[say=end]]", "end"]
    )


async def test_an_export_that_the_store_interrupts_does_not_look_whole(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await say(served, "[[say=one]]", {}, "a")
    await say(served, "[[say=two]]", {}, "b")
    history = served.app.state.edge.engine.history
    whole, calls = history.messages, []

    async def once(*args: Any, **more: Any) -> Any:
        calls.append(args)
        if len(calls) > 1:
            from service.errors import StoreUnavailable

            raise StoreUnavailable
        return await whole(*args, **more)

    monkeypatch.setattr(history, "messages", once)
    with pytest.raises(httpx.RemoteProtocolError):
        await served.client.get("/v1/export")


async def test_an_erasure_leaves_no_key_of_any_session_and_nothing_counted(
    start: Start, store: redis.Redis
) -> None:
    async with start(auth="keys") as served:
        mine, other = bearer(await make_key(served, owner="me")), bearer(await make_key(served, owner="you"))
        for session in ("a", "b", "c"):
            await say(served, "[[say=x]]", mine, session)
        await say(served, "[[say=x]]", mine)
        await served.client.post("/v1/sessions", json={"title": "empty"}, headers=mine)
        running = await begin(served, "busy", {"content": SLOW}, **mine, **{"Idempotency-Key": "k"})
        await shown(served, running, mine)
        await begin(served, "busy", {"content": "next", "on_busy": "queue"}, **mine)
        await say(served, "[[say=y]]", other, "a")
        before = keys_of(store, "owner.you")
        answer = await erase(served, mine)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert told["removed"] == {"sessions": 6, "turns": 6, "messages": 11}
        assert (told["principal"], told["complete"]) == ("owner.me", True)
        await eventually_async(lambda: not keys_of(store, "owner.me"))
        assert (await served.client.get("/v1/sessions", headers=mine)).json()["data"] == []
        used = (await served.client.get("/v1/usage", headers=mine)).json()
        assert [used["storage"][name]["used"] for name in ("sessions", "bytes")] == [0, 0]
        # What the bill needs stays, and the receipt names it and its time.
        assert sum(day["turns"] for day in used["data"]) >= 4
        kept = {row["what"]: row["seconds"] for row in told["kept"]}
        assert kept["usage"] == 400 * 86_400
        assert keys_of(store, "owner.you") == before
        assert texts(await export(served, other)) == {"a": ["[[say=y]]", "y"]}
        again = (await erase(served, mine)).json()
        assert again["removed"] == {"sessions": 0, "turns": 0, "messages": 0}
        assert again["complete"]


async def test_what_outlives_a_session_without_a_name_is_erased_too(start: Start, store: redis.Redis) -> None:
    async with start(auth="keys") as served:
        mine = bearer(await make_key(served, owner="me"))
        nameless = await say(served, "[[say=secret]]", {**mine, "Idempotency-Key": "k"})
        base = f"chat:{{owner.me/{nameless}}}"
        await eventually_async(lambda: store.hget(f"{base}:session", "active") is None)
        # An hour later: the session has expired, its log has not.
        for name in ("session", "order", "messages", "turns"):
            assert store.delete(f"{base}:{name}")
        assert [key for key in keys_of(store, "owner.me") if ":log:" in key]
        assert (await erase(served, mine)).json()["complete"]
        assert keys_of(store, "owner.me") == []
        used = (await served.client.get("/v1/usage", headers=mine)).json()["storage"]
        assert (used["sessions"]["used"], used["bytes"]["used"]) == (0, 0)


async def test_a_lost_index_hides_nothing_from_an_erasure(start: Start, store: redis.Redis) -> None:
    async with start(auth="keys") as served:
        mine = bearer(await make_key(served, owner="me"))
        await say(served, "[[say=x]]", mine, "a")
        await say(served, "[[say=x]]", mine)
        for name in ("sessions", "stored", "stored_until"):
            store.delete(f"chat:{{owner.me}}:{name}")
        assert (await erase(served, mine)).json()["removed"]["sessions"] == 2
        assert keys_of(store, "owner.me") == []


async def test_an_erasure_that_is_cut_short_says_so_and_the_next_one_goes_on(
    start: Start, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start(auth="keys") as served:
        mine = bearer(await make_key(served, owner="me"))
        for i in range(5):
            await say(served, "[[say=x]]", mine, f"s{i}")
        monkeypatch.setattr(erasing, "CALL_SECONDS", 0.0)
        monkeypatch.setattr(erasing.erase, "__defaults__", (0.0,))
        answer = await erase(served, mine)
        assert answer.status_code == 202
        assert answer.json() | {"kept": 0} == {
            "object": "erasure",
            "principal": "owner.me",
            "complete": False,
            "removed": {"sessions": 0, "turns": 0, "messages": 0},
            "kept": 0,
        }
        monkeypatch.setattr(erasing.erase, "__defaults__", (30.0,))
        # A worker that was killed after two of them leaves the others for the next call.
        for session in ("s0", "s1"):
            await served.client.delete(f"/v1/sessions/{session}", headers=mine)
        answer = await erase(served, mine)
        assert (answer.status_code, answer.json()["removed"]["sessions"]) == (200, 3)
        assert keys_of(store, "owner.me") == []


async def test_a_receipt_is_not_complete_where_a_session_went_on_answering(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start(auth="keys") as served:
        mine = bearer(await make_key(served, owner="me"))
        for session in ("goes on", "is quiet"):
            await say(served, "[[say=x]]", mine, session.replace(" ", "-"))
        engine = served.app.state.edge.engine
        delete = engine.delete

        async def busy(principal: str, session_id: str) -> Any:
            if session_id == "goes-on":
                raise ServiceError("turn_in_progress", "The session goes on answering; try again.")
            return await delete(principal, session_id)

        monkeypatch.setattr(engine, "delete", busy)
        told = (await erase(served, mine)).json()
        assert (told["complete"], told["removed"]["sessions"]) == (False, 1)
        monkeypatch.undo()
        told = (await erase(served, mine)).json()
        assert (told["complete"], told["removed"]["sessions"]) == (True, 1)


async def test_only_an_admin_may_name_somebody_else(start: Start, store: redis.Redis) -> None:
    async with start(auth="keys") as served:
        mine, other = bearer(await make_key(served, owner="me")), bearer(await make_key(served, owner="you"))
        admin = bearer(await make_key(served, owner="boss", scopes=("admin",)))
        await say(served, "[[say=x]]", mine, "a")
        await say(served, "[[say=y]]", other, "a")
        for headers in (mine, other):
            for method, path in (("GET", "/v1/export"), ("DELETE", "/v1/sessions")):
                answer = await served.client.request(
                    method, path, headers=headers, params={"principal": "owner.me"}
                )
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert texts(await export(served, admin, principal="owner.me")) == {"a": ["[[say=x]]", "x"]}
        told = (await erase(served, admin, principal="owner.me")).json()
        assert told["removed"] == {"sessions": 1, "turns": 1, "messages": 2}
        assert keys_of(store, "owner.me") == []
        assert texts(await export(served, other)) == {"a": ["[[say=y]]", "y"]}


@pytest.mark.parametrize(
    "named", ["", "*", "key.*", "owner.me/a", "key.{x}", "key.[a-z]", "owner.you?", "k\0.x"]
)
async def test_what_can_be_no_principal_is_400_and_touches_nothing(start: Start, named: str) -> None:
    async with start(auth="keys") as served:
        other = bearer(await make_key(served, owner="you"))
        admin = bearer(await make_key(served, owner="boss", scopes=("admin",)))
        await say(served, "[[say=y]]", other, "a")
        for method, path in (("GET", "/v1/export"), ("DELETE", "/v1/sessions")):
            answer = await served.client.request(method, path, headers=admin, params={"principal": named})
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert texts(await export(served, other)) == {"a": ["[[say=y]]", "y"]}


async def test_an_erasure_goes_through_the_keys_in_bounded_steps(
    start: Start, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.store import inventory

    monkeypatch.setattr(inventory, "_NAMES", 10)
    monkeypatch.setattr(inventory, "_MEMBERS", 10)
    async with start(auth="keys") as served:
        mine = bearer(await make_key(served, owner="me"))
        for i in range(150):  # more than Redis keeps in one piece
            body = {"id": f"s{i}", "title": "t" * 70}
            assert (await served.client.post("/v1/sessions", json=body, headers=mine)).status_code == 201
            if i == 90:
                mine = bearer(await make_key(served, owner="me", limit_sends="", limit_reads=""))
        exported = await export(served, mine)
        assert sorted(one["session"]["id"] for one in exported["sessions"]) == sorted(
            f"s{i}" for i in range(150)
        )
        assert (await erase(served, mine)).json()["removed"]["sessions"] == 150
        assert keys_of(store, "owner.me") == []


async def test_the_command_erases_with_a_running_service_and_prints_the_receipt(
    start: Start, store: redis.Redis, redis_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    import asyncio

    settings = Settings(_env_file=None, redis_url=redis_server.url, groq_api_key="none")
    async with start(auth="keys") as served:
        mine = bearer(await make_key(served, owner="me"))
        await say(served, "[[say=x]]", mine, "a")
        running = await begin(served, "busy", {"content": SLOW}, **mine)
        await shown(served, running, mine)
        assert await asyncio.to_thread(erase_cli.main, ["owner.me"], settings) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["removed"] == {"sessions": 2, "turns": 2, "messages": 4}
        assert keys_of(store, "owner.me") == []
        gone = await served.client.get(running.headers["location"], headers=mine)
        assert gone.status_code == 404
    with pytest.raises(Refused, match="is no principal"):
        erase_cli.main(["key.*"], settings)


async def test_an_export_has_the_versions_of_another_past_too(served: Served) -> None:
    await branches.say(served, "[[say=one]]")
    await branches.say(served, "", regenerate=True)
    question = (await branches.messages(served))[0]["id"]
    await branches.say(served, "", edit={"message_id": question, "content": "[[say=two]]"})
    # The answer that was made anew stands below another question now: only exports tell of it.
    assert [found for [(_, found)] in (await branches.versions(served)).values()] == [["[[say=one]]", "one"]]
    [session] = (await export(served, {}))["sessions"]
    told = [[one["content"] for one in version["messages"]] for version in session["versions"]]
    assert told == [["one"], ["[[say=one]]", "one"]]
    assert (await served.client.get("/v1/sessions/s/export")).json() == session


async def test_what_is_done_with_all_of_a_person_is_an_audit_line(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    audit = SimpleNamespace(info=lambda event, **fields: told.append((event, fields)))
    monkeypatch.setattr("service.api.routes.personal_data.audit", audit)
    async with start(auth="keys") as served:
        ann = bearer(await make_key(served, owner="ann"))
        key = await make_key(served, owner="root", scopes=("chat", "admin"))
        await say(served, "[[tokens=2]]", ann)
        await export(served, ann)
        await erase(served, bearer(key), principal="owner.ann")
    by_root = {"by": "owner.root", "by_key": id_in(key)}
    (exported, of_export), (erased, of_erasure) = told
    assert (exported, of_export["subject"], of_export["by"]) == (
        "audit.person_exported",
        "owner.ann",
        "owner.ann",
    )
    counts = {"sessions": 1, "turns": 1, "complete": True}
    assert (erased, of_erasure) == ("audit.person_erased", {"subject": "owner.ann", **counts, **by_root})
