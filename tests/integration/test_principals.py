"""Limits of single persons and groups of JWTs: set by the command line or over HTTP, held within seconds."""

from __future__ import annotations

import io
import json
import sys
from typing import Any, TextIO

import pytest
import redis
from structlog.testing import CapturingLogger

from service.cli import principals as principals_cli
from service.cli.listening import Refused
from service.config.settings import Settings
from service.store import principals as principals_store
from service.store.principals import Entry
from service.telemetry import logs
from tests.conftest import Start
from tests.support.identity import bearer, make_key
from tests.support.issuer import AUDIENCE, ISSUER, SECRET, token
from tests.support.redis import RedisServer
from tests.support.service import Served
from tests.support.waiting import eventually_async

ENTRIES = "chat:own_limits"
JWT: dict[str, Any] = {
    "auth": "keys,jwt",
    "jwt_key": SECRET,
    "jwt_algorithms": "HS256",
    "jwt_issuer": ISSUER,
    "jwt_audience": AUDIENCE,
}


class Command:
    """`python -m service principals`, in this process."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._url = url
        self._capsys = capsys
        self.issuers = ISSUER
        self.stderr = ""

    def __call__(self, *arguments: str, code: int = 0, lines: TextIO | None = None) -> str:
        values: dict[str, Any] = {**JWT, "jwt_issuer": self.issuers, "log_format": "json"}
        settings = Settings(_env_file=None, redis_url=self._url, **values)
        logs.configure(settings, stream=lines, cache=False)
        try:
            assert principals_cli.main(list(arguments), settings) == code
        except Refused as refusal:
            assert code == 1
            sys.stderr.write(f"chat: {refusal}\n")
        out, self.stderr = self._capsys.readouterr()
        return out


@pytest.fixture
def command(redis_server: RedisServer, store: redis.Redis, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(redis_server.url, capsys)


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


def test_set_changes_what_is_named_and_leaves_the_rest(command: Command, store: redis.Redis) -> None:
    command(
        "set", "alice", "--budget-month", "1000", "--money-day", "0.000000001", "--limit-sends", "5/minute"
    )
    shown = command("set", "alice", "--max-turns", "3", "--limit-sends", "default", "--limit-reads", "")
    told = "jwt.alice alice - reads=none tokens/month=1000 money/day=0.000000001 turns=3"
    assert rows(shown)[1] == told.split()
    assert command("show", "alice") == shown
    assert store.ttl(ENTRIES) == -1


def test_large_amounts_of_money_stay_exact(command: Command) -> None:
    command("set", "alice", "--money-month", "999999.000000001")
    assert "money/month=999999.000000001" in command("set", "alice", "--max-turns", "1")


def test_groups_are_listed_beside_persons_and_unset_is_the_end_of_one(command: Command) -> None:
    command("set", "--group", "Sales team", "--budget-day", "0")
    command("set", "auth0|x/y", "--max-turns", "2")
    listed = command("list")
    for part in ("Sales team", "tokens/day=none", "auth0|x/y"):
        assert part in listed
    command("unset", "--group", "Sales team")
    assert "Sales team" not in command("list")
    assert command("unset", "--group", "Sales team", code=1) == ""
    assert command("show", "--group", "Sales team", code=1) == ""
    assert "has no limits of its own" in command.stderr


def test_a_subject_and_a_group_of_one_name_are_two(command: Command) -> None:
    command("set", "staff", "--max-turns", "1")
    command("set", "--group", "staff", "--max-turns", "2")
    assert [row[0] for row in rows(command("list"))[1:]] == ["group.staff", "jwt.staff"]


def test_of_several_issuers_the_one_that_is_meant_has_to_be_named(command: Command) -> None:
    command.issuers = f"{ISSUER},https://other.example/"
    command("set", "alice", "--max-turns", "1", code=1)
    assert "The issuer is one of" in command.stderr
    command("set", "alice", "--issuer", "https://evil.example/", "--max-turns", "1", code=1)
    command("set", "alice", "--issuer", "https://other.example/", "--max-turns", "1")
    assert rows(command("list"))[1][2] == "https://other.example/"
    command("show", "alice", "--issuer", ISSUER, code=1)


@pytest.mark.parametrize(
    "wrong", [["set"], ["set", "a", "--group", "b"], ["show"], ["set", "a"]], ids=" ".join
)
def test_who_or_what_is_not_named_is_one_sentence(
    command: Command, store: redis.Redis, wrong: list[str]
) -> None:
    assert command(*wrong, code=1) == ""
    assert command.stderr.startswith("chat: ")
    assert not store.exists(ENTRIES)


@pytest.mark.parametrize(
    "wrong", [["--budget-day", "-1"], ["--limit-sends", "lots"], ["--money-day", "1e9"]], ids=" ".join
)
def test_a_bad_limit_is_refused(command: Command, store: redis.Redis, wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        command("set", "alice", *wrong)
    assert refused.value.code == 2
    assert not store.exists(ENTRIES)


def test_there_is_room_for_a_number_of_entries_and_those_there_are_can_be_changed(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(principals_store, "MOST", 2)
    command("set", "a", "--max-turns", "1")
    command("set", "b", "--max-turns", "1")
    command("set", "c", "--max-turns", "1", code=1)
    command("set", "a", "--max-turns", "2")
    assert [row[0] for row in rows(command("list"))[1:]] == ["jwt.a", "jwt.b"]


def test_every_change_is_an_audit_line(command: Command) -> None:
    raw = io.BytesIO()
    lines = io.TextIOWrapper(raw, write_through=True)
    command("set", "alice", "--max-turns", "1", "--limit-sends", "default", lines=lines)
    command("unset", "alice", lines=lines)
    entries = [json.loads(line) for line in raw.getvalue().decode().splitlines()]
    assert [(entry["event"], entry["subject"]) for entry in entries] == [
        ("audit.own_limits_set", "jwt.alice"),
        ("audit.own_limits_unset", "jwt.alice"),
    ]
    assert (entries[0]["limits"], entries[0]["removed"]) == ({"max_running_turns": 1}, ["limit_sends"])
    assert all(entry["by"].startswith("user.") for entry in entries)


async def entry(served: Served, id: str, **limits: Any) -> None:
    await served.app.state.edge.principals.set(Entry(id, id.partition(".")[2], **limits))


async def budgets(served: Served, text: str, query: str = "") -> Any:
    answer = await served.client.get(f"/v1/usage{query}", headers=bearer(text))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def send(served: Served, text: str) -> tuple[int, str, str | None]:
    answer = await served.client.post("/chat", json={"user_query": "[[tokens=2]]"}, headers=bearer(text))
    return answer.status_code, answer.text, answer.headers.get("ratelimit-limit")


async def test_a_persons_limits_hold_for_the_person_and_nobody_else(start: Start) -> None:
    async with start(**JWT, limit_sends="50/minute") as served:
        await entry(served, "jwt.alice", limit_sends="7/minute", budget_tokens_per_day=10)
        status, _, _ = await send(served, token("alice"))
        assert status == 429  # the message is larger than the whole budget
        assert (await budgets(served, token("alice")))["budgets"]["day"]["limit"] == 10
        assert await send(served, token("bob")) == (200, (await send(served, token("bob")))[1], "50")
        assert (await budgets(served, token("bob")))["budgets"]["day"]["limit"] is None


async def test_a_groups_limits_hold_for_its_members_and_of_several_the_most_generous(start: Start) -> None:
    async with start(**JWT, limit_sends="50/minute") as served:
        await entry(served, "group.staff", limit_sends="7/minute", budget_tokens_per_month=1_000_000)
        await entry(served, "group.lab", limit_sends="9/minute", budget_money_per_month=20_000_000_000)
        assert (await send(served, token("a", groups=["staff", "unknown"])))[2] == "7"
        assert (await send(served, token("b", groups="staff")))[2] == "7"
        both = token("c", groups=["staff", "lab"])
        assert (await send(served, both))[2] == "9"
        found = await budgets(served, both)
        assert found["budgets"]["month"]["limit"] == 1_000_000
        assert found["money"]["month"]["limit"] == "20"
        await entry(served, "jwt.d", limit_sends="3/minute")
        assert (await send(served, token("d", groups=["staff", "lab"])))[2] == "3"
        for odd in ([], {"staff": True}, 7, None, [["staff"], 7, "\ud800", ""], "staff lab"):
            assert (await send(served, token("e", groups=odd)))[2] == "50", odd


async def test_the_claim_of_groups_is_a_setting_and_may_be_a_path(start: Start) -> None:
    async with start(**JWT, jwt_groups_claim="realm_access.roles", limit_sends="50/minute") as served:
        await entry(served, "group.staff", limit_sends="7/minute")
        assert (await send(served, token("a", realm_access={"roles": ["staff"]})))[2] == "7"
        assert (await send(served, token("b", groups=["staff"])))[2] == "50"
    async with start(**JWT, jwt_groups_claim="", limit_sends="50/minute") as served:
        assert (await send(served, token("c", groups=["staff"])))[2] == "50"


async def test_a_change_holds_within_seconds_and_for_who_comes_later(start: Start) -> None:
    async with start(**JWT, limit_sends="50/minute") as served:
        assert (await send(served, token("alice")))[2] == "50"
        await entry(served, "jwt.alice", limit_sends="40/minute")
        await entry(served, "jwt.later", limit_sends="30/minute")

        async def followed() -> bool:
            return (await send(served, token("alice")))[2] == "40"

        await eventually_async(followed, within=10)
        assert (await send(served, token("later")))[2] == "30"


async def test_admins_see_set_and_unset_limits_over_http(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = CapturingLogger()
    monkeypatch.setattr("service.api.routes.principals.audit", lines)
    async with start(**JWT) as served:
        admin = await make_key(served, scopes=("chat", "admin"))
        answer = await served.client.post(
            "/v1/principals",
            headers=bearer(admin),
            json={"subject": "alice", "budget_money_per_month": "2.5", "max_running_turns": 3},
        )
        assert answer.status_code == 200, answer.text
        changed = await served.client.post(
            "/v1/principals", headers=bearer(admin), json={"subject": "alice", "max_running_turns": None}
        )
        still = {"max_running_turns": None, "budget_money_per_month": "2.5"}
        assert changed.json() == {**answer.json(), **still}
        listed = await served.client.get("/v1/principals", headers=bearer(admin))
        assert listed.json() == {"object": "list", "data": [changed.json()]}
        seen = await budgets(served, admin, "?principal=jwt.alice")
        assert seen["money"]["month"]["limit"] == "2.5"
        gone = await served.client.delete("/v1/principals/jwt.alice", headers=bearer(admin))
        again = await served.client.delete("/v1/principals/jwt.alice", headers=bearer(admin))
        assert (gone.status_code, again.status_code) == (204, 404)
        assert [(line.args[0], line.kwargs["subject"]) for line in lines.calls] == [
            ("audit.own_limits_set", "jwt.alice"),
            ("audit.own_limits_set", "jwt.alice"),
            ("audit.own_limits_unset", "jwt.alice"),
        ]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"subject": "a", "group": "b"},
        {"subject": ""},
        {"subject": "a\nb"},
        {"subject": 7},
        {"subject": "a", "limit_sends": "lots"},
        {"subject": "a", "budget_tokens_per_day": -1},
        {"subject": "a", "budget_money_per_day": 2},
        {"subject": "a", "issuer": "https://evil.example/"},
        [],
    ],
    ids=str,
)
async def test_a_bad_wish_over_http_sets_nothing(start: Start, store: redis.Redis, body: Any) -> None:
    async with start(**JWT) as served:
        admin = bearer(await make_key(served, scopes=("chat", "admin")))
        answer = await served.client.post("/v1/principals", headers=admin, json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert not store.exists(ENTRIES)


async def test_where_jwts_are_not_in_use_nobody_can_lay_up_limits(served: Served) -> None:
    answer = await served.client.post("/v1/principals", json={"subject": "a", "max_running_turns": 1})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_a_ticket_has_the_persons_limits(start: Start) -> None:
    async with start(**JWT, limit_reads="50/minute") as served:
        await entry(served, "jwt.alice", limit_reads="9/minute")
        sent = await served.client.post(
            "/v1/sessions/s/turns", json={"content": "[[tokens=2]]"}, headers=bearer(token("alice"))
        )
        turn = sent.headers["x-turn-id"]
        made = await served.client.post(f"/v1/sessions/s/turns/{turn}/ticket", headers=bearer(token("alice")))
        read = await served.client.get(made.json()["url"])
        assert (read.status_code, read.headers["ratelimit-limit"]) == (200, "9")
