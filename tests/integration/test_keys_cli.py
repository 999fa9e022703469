"""`python -m service keys`: what is printed, what is stored, and that a running service follows."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import httpx
import pytest
import redis

from service.cli import keys as keys_cli
from service.cli.listening import Refused
from service.config.settings import Settings
from service.store.credentials import id_of
from service.telemetry import logs
from tests.support.identity import bearer, id_in
from tests.support.processes import Replica
from tests.support.redis import RedisServer, free_port
from tests.support.running import call
from tests.support.waiting import eventually

KEY = re.compile(r"chat_[0-9a-z]{12}_[A-Za-z0-9]{43}\n")


class Keys:
    """The command, in this process."""

    def __init__(self, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
        self._settings = Settings(_env_file=None, redis_url=redis_server.url, log_format="json")
        self._capsys = capsys
        self.stderr = ""

    def __call__(self, *arguments: str, code: int = 0, lines: TextIO | None = None) -> str:
        logs.configure(self._settings, stream=lines, cache=False)  # as __main__.py does
        try:
            assert keys_cli.main(list(arguments), self._settings) == code
        except Refused as refusal:
            assert code == 1
            sys.stderr.write(f"chat: {refusal}\n")
        out, self.stderr = self._capsys.readouterr()
        return out


@pytest.fixture
def keys(redis_server: RedisServer, store: redis.Redis, capsys: pytest.CaptureFixture[str]) -> Keys:
    return Keys(redis_server, capsys)


def record(store: redis.Redis, key: str) -> dict[str, Any]:
    found: Any = store.hgetall(f"chat:{{credentials}}:{id_in(key)}")
    return dict(found)


def test_create_prints_the_key_and_nothing_else(keys: Keys) -> None:
    assert KEY.fullmatch(keys("create", "--name", "web"))


def test_only_a_digest_is_stored(keys: Keys, store: redis.Redis) -> None:
    key = keys("create", "--name", "web").strip()
    secret = key.rpartition("_")[2]
    for name in store.scan_iter("*"):
        kind = store.type(name)
        value = store.hgetall(name) if kind == "hash" else store.zrange(name, 0, -1)
        assert secret not in f"{name} {value}"
    assert set(record(store, key)) == {"v", "name", "scopes", "created", "digest"}


def test_create_takes_all_that_a_key_can_have(keys: Keys, store: redis.Redis) -> None:
    key = keys(
        "create",
        "--name",
        "web",
        "--owner",
        "team",
        "--scopes",
        "chat, admin",
        "--expires",
        "30d",
        "--limit-sends",
        "100/minute",
        "--limit-reads",
        "9/second;100/hour",
        "--budget-minute",
        "1000",
        "--budget-day",
        "20000",
        "--budget-month",
        "0",
        "--max-turns",
        "3",
    ).strip()
    found = record(store, key)
    assert 30 * 86_400 - 5 < int(found.pop("expires")) - time.time() <= 30 * 86_400
    assert 0 <= time.time() - int(found.pop("created")) < 5
    del found["digest"]
    assert found == {
        "v": "1",
        "name": "web",
        "owner": "team",
        "scopes": "chat,admin",
        "limit_sends": "100/minute",
        "limit_reads": "9/second;100/hour",
        "budget_tokens_per_minute": "1000",
        "budget_tokens_per_day": "20000",
        "budget_tokens_per_month": "0",
        "max_running_turns": "3",
    }
    # The record ends a month after the key: a list does not grow for ever.
    assert 59 * 86_400 < int(store.ttl(f"chat:{{credentials}}:{id_in(key)}")) <= 60 * 86_400


@pytest.mark.parametrize(
    "wrong",
    [
        ["create"],
        ["create", "--name", ""],
        ["create", "--name", "a\nb"],
        ["create", "--name", "x" * 201],
        ["create", "--name", "x", "--scopes", "root"],
        ["create", "--name", "x", "--scopes", ","],
        ["create", "--name", "x", "--expires", "soon"],
        ["create", "--name", "x", "--expires", "0d"],
        ["create", "--name", "x", "--limit-sends", "lots"],
        ["create", "--name", "x", "--budget-day", "-1"],
        ["rotate"],
        ["revoke"],
        ["rotate", "x", "--grace", "1"],
        ["burn"],
        [],
    ],
    ids=" ".join,
)
def test_wrong_wishes_are_refused_before_anything_is_stored(
    keys: Keys, store: redis.Redis, wrong: list[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        keys(*wrong)
    assert refused.value.code == 2
    assert list(store.scan_iter("*credentials*")) == []


def test_set_changes_limits_and_gives_some_back_to_the_settings(keys: Keys, store: redis.Redis) -> None:
    key = keys("create", "--name", "web", "--max-turns", "3", "--limit-sends", "5/minute").strip()
    assert keys("set", id_in(key), "--budget-month", "1000", "--max-turns", "default") == ""
    found = record(store, key)
    assert (found["budget_tokens_per_month"], found["limit_sends"]) == ("1000", "5/minute")
    assert "max_running_turns" not in found
    assert keys("set", id_in(key), code=1) == ""
    assert keys("set", "nope", "--max-turns", "1", code=1) == ""


def test_set_prints_the_secret_of_a_webhook_once_and_no_log_has_it(keys: Keys, store: redis.Redis) -> None:
    raw = io.BytesIO()
    lines = io.TextIOWrapper(raw, write_through=True)
    key = keys("create", "--name", "web").strip()
    secret = keys("set", id_in(key), "--webhook-url", "https://example.com/h", lines=lines).strip()
    assert secret.startswith("whsec_")
    assert record(store, key)["webhook_secret"] == secret
    assert "webhook=https://example.com/h" in keys("list")
    assert secret not in raw.getvalue().decode() + keys("list")
    keys("set", id_in(key), "--webhook-url", "http://example.com/h", code=1)
    keys("set", id_in(key), "--no-webhook", "--webhook-url", "https://example.com/h", code=1)
    assert record(store, key)["webhook_secret"] == secret
    keys("set", id_in(key), "--no-webhook")
    assert not {"webhook_url", "webhook_secret"} & record(store, key).keys()


def test_list_shows_all_but_the_secrets(keys: Keys, store: redis.Redis) -> None:
    first = keys("create", "--name", "first", "--owner", "team", "--limit-sends", "5/minute").strip()
    second = keys("create", "--name", "second", "--budget-day", "0").strip()
    keys("revoke", id_in(first))
    rows = [re.split(r"\s{2,}", line) for line in keys("list").splitlines()]
    created = time.strftime("%Y-%m-%d", time.gmtime())
    assert rows[0] == ["ID", "NAME", "OWNER", "SCOPES", "STATE", "CREATED", "EXPIRES", "LAST USED", "LIMITS"]
    by_id = {row[0]: row for row in rows[1:]}
    assert by_id[id_in(first)][1:5] == ["first", "team", "chat", "revoked"]
    assert by_id[id_in(first)][8] == "sends=5/minute"
    assert by_id[id_in(second)][1:5] == ["second", "-", "chat", "active"]
    assert by_id[id_in(second)][5].startswith(created)
    assert by_id[id_in(second)][8] == "tokens/day=none"
    for key in (first, second):
        assert key.rpartition("_")[2] not in keys("list")


def test_rotate_prints_only_the_new_key_of_the_same_id(keys: Keys, store: redis.Redis) -> None:
    old = keys("create", "--name", "web").strip()
    before = record(store, old)["digest"]
    new = keys("rotate", id_in(old))
    assert KEY.fullmatch(new)
    assert id_of(new.strip()) == id_in(old)
    assert new.strip() != old
    after = record(store, old)
    assert after["digest"] != before
    assert int(after["previous_until"]) <= time.time()
    keys("rotate", id_in(old), "--grace", "1h")
    assert 3_590 < int(record(store, old)["previous_until"]) - time.time() <= 3_600


def test_what_is_not_there_or_works_no_more_is_one_sentence(keys: Keys) -> None:
    for command in ("rotate", "revoke"):
        assert keys(command, "nope", code=1) == ""
        assert keys.stderr.startswith("chat: there is no key 'nope'")
    revoked = keys("create", "--name", "x").strip()
    keys("revoke", id_in(revoked))
    assert keys("rotate", id_in(revoked), code=1) == ""


def test_every_change_is_an_audit_line_without_the_secret(keys: Keys) -> None:
    raw = io.BytesIO()
    lines = io.TextIOWrapper(raw, write_through=True)
    key = keys("create", "--name", "web", "--owner", "team", lines=lines).strip()
    rotated = keys("rotate", id_in(key), lines=lines).strip()
    keys("revoke", id_in(key), lines=lines)
    text = raw.getvalue().decode()
    entries = [json.loads(line) for line in text.splitlines()]
    assert [entry["event"] for entry in entries] == [
        "audit.key_created",
        "audit.key_rotated",
        "audit.key_revoked",
    ]
    assert {entry["key"] for entry in entries} == {id_in(key)}
    assert all(entry["by"].startswith("user.") for entry in entries)
    assert (entries[0]["name"], entries[0]["owner"], entries[0]["scopes"]) == ("web", "team", ["chat"])
    for secret in (key.rpartition("_")[2], rotated.rpartition("_")[2]):
        assert secret not in text


def test_without_a_store_it_says_so(tmp_path: Path) -> None:
    done = call("keys", "list", cwd=tmp_path, CHAT_REDIS_URL=f"redis://127.0.0.1:{free_port()}")
    assert (done.returncode, done.stdout) == (1, "")
    assert "chat: the store cannot be reached" in done.stderr


def test_keys_meet_a_running_local_service_in_its_embedded_store(tmp_path: Path) -> None:
    service = Replica(tmp_path, command="run", auth="keys")
    try:
        assert "auth.no_keys" in service.log()
        assert httpx.get(f"{service.url}/v1/sessions").status_code == 401
        made = call("keys", "create", "--name", "me", cwd=tmp_path, CHAT_DATA_DIR=str(tmp_path))
        assert (made.returncode, KEY.fullmatch(made.stdout) is not None) == (0, True)
        key = made.stdout.strip()
        assert httpx.get(f"{service.url}/v1/sessions", headers=bearer(key)).status_code == 200
        gone = call("keys", "revoke", id_in(key), cwd=tmp_path, CHAT_DATA_DIR=str(tmp_path))
        assert gone.returncode == 0
        eventually(
            lambda: httpx.get(f"{service.url}/v1/sessions", headers=bearer(key)).status_code == 401,
            within=6,
        )
        assert key.rpartition("_")[2] not in service.log() + made.stderr + gone.stderr
    finally:
        service.close()
