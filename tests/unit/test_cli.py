"""The commands of `python -m service`: in which order they look, what they print, how they end."""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from service import __main__ as entry
from service.cli import check, erase, keys, run, serve
from service.cli.listening import Refused
from service.config.environment import METRICS_DIR
from service.config.provider_keys import ProviderKey
from service.config.settings import Settings, SettingsError
from service.errors import StoreRefusesWrites, StoreUnavailable
from service.serving import http_server, master
from service.store.connection import client
from service.telemetry import logs, metrics_server
from tests.support.logged import logged_by

SETTINGS = Settings(_env_file=None, redis_url="redis://user:secret@redis:6379/0")
WISHES = argparse.Namespace(app="service.app:create_app")


# -- the entry


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the command `check` was given; an exception in it is raised by the next one."""
    given: list[Any] = []

    def stand_in(settings: Settings, wishes: argparse.Namespace, rest: list[str]) -> int:
        if given and isinstance(given[0], BaseException):
            raise given.pop(0)
        given.append((settings, rest))
        return 7

    monkeypatch.setitem(entry._COMMANDS, "check", stand_in)
    monkeypatch.setitem(entry._COMMANDS, "keys", stand_in)
    monkeypatch.setattr(entry, "load_settings", lambda: SETTINGS)
    monkeypatch.setattr(logs, "configure", lambda settings: given.append("configured"))
    monkeypatch.setattr(gc, "set_threshold", lambda *_: None)
    return given


def test_a_command_has_the_settings_after_the_log_and_its_own_status(command: list[Any]) -> None:
    assert entry.main(["check"]) == 7
    assert entry.main(["keys", "rotate", "--grace", "1h"]) == 7
    assert command == [
        "configured",
        (SETTINGS, []),
        "configured",
        (SETTINGS, ["rotate", "--grace", "1h"]),
    ]


@pytest.mark.parametrize("name", ["run", "serve", "check", "openapi"])
def test_a_misspelt_option_is_told(command: list[Any], capsys: pytest.CaptureFixture[str], name: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        entry.main([name, "--prot", "9"])
    assert "unrecognized arguments: --prot 9" in capsys.readouterr().err
    assert command == []


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (
            SettingsError("CHAT_PORT: is wrong. GROQ_API_KEY: is empty. CHAT_ENV: is no word."),
            2,
            [
                "chat: CHAT_PORT: is wrong.",
                "chat: GROQ_API_KEY: is empty.",
                "chat: CHAT_ENV: is no word.",
            ],
        ),
        (Refused("Port 8000 is in use."), 1, ["chat: Port 8000 is in use."]),
        (KeyboardInterrupt(), 130, []),
    ],
    ids=["settings", "refused", "interrupted"],
)
def test_what_keeps_a_command_from_its_end_is_a_line_each_and_a_status(
    command: list[Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    lines: list[str],
) -> None:
    monkeypatch.setattr(logs, "configure", lambda settings: None)
    command.append(error)
    assert entry.main(["check"]) == code
    out, err = capsys.readouterr()
    assert (out, err.splitlines()) == ("", lines)


@pytest.mark.parametrize(
    ("name", "more", "rest", "given"),
    [("keys", {}, ["list"], ["list"]), ("erase", {"principal": "key.a"}, [], ["key.a"])],
)
def test_a_tool_takes_no_worker_s_place_and_starts_no_model(
    monkeypatch: pytest.MonkeyPatch, name: str, more: dict[str, str], rest: list[str], given: list[str]
) -> None:
    told: list[Any] = []

    @contextlib.contextmanager
    def surroundings(settings: Settings, *, demo: bool = True) -> Iterator[Settings]:
        told.append(("demo", demo))
        yield settings

    def tool(words: list[str], settings: Settings) -> int:
        told.append((words, settings, METRICS_DIR in os.environ))
        return 3

    monkeypatch.setenv(METRICS_DIR, "/nowhere")
    monkeypatch.setattr(entry, "surroundings", surroundings)
    monkeypatch.setattr({"keys": keys, "erase": erase}[name], "main", tool)
    assert entry._tool(SETTINGS, argparse.Namespace(command=name, **more), rest) == 3
    assert told == [("demo", False), (given, SETTINGS, False)]


# -- run and serve

Did = list[Any]


class Listening:
    """A bound socket."""

    def __init__(self, did: Did) -> None:
        self.did = did

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 8123

    def close(self) -> None:
        self.did.append("close")


@pytest.fixture
def did(monkeypatch: pytest.MonkeyPatch) -> Did:
    """What `run` and `serve` do, in order; nothing is started."""
    found: Did = []

    def note(name: str) -> Callable[..., None]:
        return lambda *given: found.append(name)

    @contextlib.contextmanager
    def surroundings(settings: Settings) -> Iterator[Settings]:
        found.append("surroundings")
        yield settings
        found.append("gone")

    def listen(settings: Settings, port: int) -> list[Listening]:
        found.append("listen")
        return [Listening(found)]

    for module in (run, serve):
        monkeypatch.setattr(module, "raise_file_limit", note("files"))
        monkeypatch.setattr(module, "check_models", note("models"))
        monkeypatch.setattr(module, "check_store", note("store"))
        monkeypatch.setattr(module, "surroundings", surroundings)
        monkeypatch.setattr(module, "listen", listen)
        monkeypatch.setattr(
            module, "listen_for_metrics", lambda settings: ["metrics"] if settings.metrics_port else []
        )
    monkeypatch.setattr(logs, "warn_of", note("warn"))
    monkeypatch.setattr(metrics_server, "serve_in_threads", lambda sockets, _: found.append(sockets))
    return found


def test_run_looks_at_all_before_it_serves_and_says_where(did: Did, monkeypatch: pytest.MonkeyPatch) -> None:
    class Server:
        def __init__(self, config: Any, settings: Settings, *, on_ready: Callable[[], None]) -> None:
            self.ready = on_ready

        def run(self, sockets: list[Any]) -> None:
            did.append(("run", len(sockets), METRICS_DIR in os.environ))
            self.ready()

    lines = logged_by(run, monkeypatch)
    monkeypatch.setenv(METRICS_DIR, "/nowhere")
    monkeypatch.setattr(http_server, "ChatServer", Server)
    settings = SETTINGS.model_copy(update={"metrics_port": 9464, "workers": 1})
    assert run.run(settings, WISHES, []) == 0
    looks = ["warn", "files", "models", "listen", "surroundings", "store"]
    assert did == [*looks, ["metrics"], ("run", 1, False), "gone"]
    assert [(line["event"], line["url"], line["workers"]) for line in lines] == [
        ("service.ready", "http://localhost:8123", 1)
    ]


def test_run_with_several_workers_is_serve(did: Did, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "ChatServer", None)
    monkeypatch.setattr(run, "serve", lambda settings, wishes, rest: settings.workers)
    assert run.run(SETTINGS.model_copy(update={"workers": 2}), WISHES, []) == 2


@pytest.mark.parametrize("port", [9464, None])
def test_serve_looks_at_all_lets_go_of_the_port_and_begins_the_master(
    did: Did, monkeypatch: pytest.MonkeyPatch, port: int | None
) -> None:
    class App:
        def __init__(self, app: str, exporter: Any) -> None:
            did.append((app, exporter))

        def run(self) -> None:
            did.append("run")

    monkeypatch.setattr(master, "ChatApplication", App)
    monkeypatch.setattr(metrics_server, "ExporterProcess", lambda sockets, _: ("exporter", sockets))
    assert serve.serve(SETTINGS.model_copy(update={"metrics_port": port}), WISHES, []) == 0
    looks = ["files", "models", "listen", "close", "surroundings", "store"]
    exporter = ("exporter", ["metrics"]) if port else None
    assert did == [*looks, ("service.app:create_app()", exporter), "run", "gone"]


def test_several_workers_need_a_store_that_they_share(did: Did) -> None:
    with pytest.raises(Refused, match=r"^Several workers need a Redis between them"):
        serve.serve(SETTINGS.model_copy(update={"redis_url": None}), WISHES, [])
    assert "store" not in did


# -- check


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Did:
    found: Did = []

    @contextlib.contextmanager
    def surroundings(settings: Settings, *, demo: bool = True) -> Iterator[Settings]:
        found.append(f"demo {demo}")
        yield settings

    monkeypatch.setattr(logs, "warn_of", lambda _: found.append("warn"))
    monkeypatch.setattr(check, "check_models", lambda _: found.append("models"))
    monkeypatch.setattr(check, "check_store", lambda _: found.append("store"))
    monkeypatch.setattr(check, "surroundings", surroundings)
    return found


def keys_that_say(monkeypatch: pytest.MonkeyPatch, **said: bool) -> None:
    """Keys of the provider by name, and whether they work."""
    found = tuple(ProviderKey(name) for name in said)
    monkeypatch.setattr(check, "KeySource", lambda _: SimpleNamespace(read=lambda: found))
    monkeypatch.setattr(check, "_provider", lambda _, key: (f"It says {said[key.name]}.", said[key.name]))


RIGHT = "The settings are right, the models are known, and the store at {} answers."


def test_check_looks_at_all_and_prints_no_password(checked: Did, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.check(SETTINGS, WISHES, []) == 0
    assert checked == ["warn", "models", "demo False", "store"]
    out = capsys.readouterr().out
    assert "secret" not in out
    assert out == RIGHT.format("redis://redis:6379/0") + "\n"
    check.check(SETTINGS.model_copy(update={"redis_url": None}), WISHES, [])
    assert capsys.readouterr().out == RIGHT.format("memory://") + "\n"


def test_check_asks_the_provider_with_each_key(
    checked: Did, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = SETTINGS.model_copy(update={"groq_base_url": "http://127.0.0.1:9"})
    keys_that_say(monkeypatch, one=True)
    assert check.check(asked, WISHES, []) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["It says True."]
    keys_that_say(monkeypatch, one=False)
    with pytest.raises(Refused, match=r"^It says False\.$"):
        check.check(asked, WISHES, [])
    capsys.readouterr()
    keys_that_say(monkeypatch, a=True, b=False, c=False)
    with pytest.raises(Refused, match=r"^Of the provider's keys these do not work: b, c\.$"):
        check.check(asked, WISHES, [])
    said = ["a: It says True.", "b: It says False.", "c: It says False."]
    assert capsys.readouterr().out.splitlines()[1:] == said


class Store:
    """A client that says what it is told to, once after the other; the last for ever."""

    def __init__(self, *says: Exception | str | None) -> None:
        self.says = list(says)
        self.closed = 0

    def __call__(self, settings: Settings) -> Store:
        return self

    async def check(self) -> None:
        if isinstance(error := self.says[0], Exception):
            if len(self.says) > 1:
                self.says.pop(0)
            raise error

    async def evicting_policy(self) -> str | None:
        policy = self.says[0]
        return policy if isinstance(policy, str) else None

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def problem(monkeypatch: pytest.MonkeyPatch) -> Callable[[Store], Any]:
    """What is wrong with a store, on a clock that its sleeps move."""
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    async def found(store: Store) -> str | None:
        now[0] = 0.0
        monkeypatch.setattr(client, "Client", store)
        with monkeypatch.context() as patch:
            patch.setattr(check, "time", SimpleNamespace(monotonic=lambda: now[0]))
            patch.setattr(check, "asyncio", SimpleNamespace(sleep=sleep))
            return await check._store_problem(SETTINGS)

    return found


async def test_a_store_that_starts_beside_us_has_five_seconds(problem: Callable[[Store], Any]) -> None:
    late = Store(*[StoreUnavailable() for _ in range(20)], None)
    assert await problem(late) is None
    assert late.closed == 21
    never = Store(StoreUnavailable())
    assert await problem(never) == (
        "The store at redis://redis:6379/0 cannot be reached (The session store does not answer;"
        " try again in 2 s):"
        " is it running, is CHAT_REDIS_URL right, and may its user write and publish there?"
    )
    assert never.closed == 22


async def test_a_store_that_drops_what_it_keeps_is_not_fit(problem: Callable[[Store], Any]) -> None:
    found = await problem(Store("allkeys-lru"))
    assert found.startswith(
        "The store at redis://redis:6379/0 may drop what it keeps: its maxmemory-policy is allkeys-lru."
    )


@pytest.mark.parametrize(
    ("reason", "passes"),
    [("full", True), ("disk", True), ("no_replicas", True), ("read_only", False), ("forbidden", False)],
)
async def test_a_store_that_takes_no_writes_for_now_does_not_keep_us_from_reading(
    problem: Callable[[Store], Any], monkeypatch: pytest.MonkeyPatch, reason: str, passes: bool
) -> None:
    lines = logged_by(check, monkeypatch)
    found = await problem(Store(StoreRefusesWrites(reason)))
    assert (found is None) is passes
    assert [(line["event"], line["reason"]) for line in lines] == (
        [("store.refuses_writes", reason)] if passes else []
    )
