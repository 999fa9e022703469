"""Checks before a start run in a fork, and an erasure by a tool that takes nothing over."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.cli import check, erase
from service.cli.listening import Refused
from service.config.environment import METRICS_DIR
from service.config.provider_keys import ProviderKey
from service.config.settings import Settings, SettingsError
from service.engine.erasing import Erased
from service.errors import StoreUnavailable
from service.upstream import address, models

SETTINGS = Settings(_env_file=None).model_copy(
    update={"models_file": Path("models.toml"), "model": "m", "title_model": "t", "on_takeover": "continue"}
)

STORED = Settings(_env_file=None, redis_url="redis://redis:6379/0")


class Gone(Exception):
    """The fork has ended."""


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], str]], tuple[int, str]]:
    """A verdict as the fork finds it: its exit status and what it has said."""
    exits: list[int] = []

    def leave(status: int) -> None:
        exits.append(status)
        raise Gone

    def found(verdict: Callable[[], str]) -> tuple[int, str]:
        exits.clear()
        reader, writer = os.pipe()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fork", lambda: 0)
            patch.setattr(os, "_exit", leave)
            patch.setattr(os, "pipe", lambda: (reader, writer))
            with pytest.raises(Gone):
                check._in_fork(verdict)
        os.close(writer)
        with os.fdopen(reader) as said:
            return exits[0], said.read()

    return found


def test_what_a_fork_has_found_is_said_and_a_failure_is_none_that_passes(
    child: Callable[[Callable[[], str]], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> str:
        raise OSError("no such file")

    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setenv(METRICS_DIR, "/nowhere")
    assert child(lambda: f"{METRICS_DIR in os.environ}") == (0, "False")
    assert child(lambda: "") == (0, "")
    assert child(fail) == (0, "the check itself failed")
    assert child(interrupted)[0] == 130


@pytest.mark.parametrize(("status", "interrupted"), [(0, False), (130 << 8, True), (2, False)])
def test_who_has_forked_waits_and_is_interrupted_with_its_fork(
    monkeypatch: pytest.MonkeyPatch, status: int, interrupted: bool
) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"said")
    waited: list[int] = []

    def wait(pid: int, options: int) -> tuple[int, int]:
        waited.append(pid)
        return pid, status

    monkeypatch.setattr(os, "fork", lambda: 7)
    monkeypatch.setattr(os, "pipe", lambda: (reader, writer))
    monkeypatch.setattr(os, "waitpid", wait)
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            check._in_fork(lambda: "")
    else:
        assert check._in_fork(lambda: "") == "said"
    assert waited == [7]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No fork: what it would find is found here."""
    monkeypatch.setattr(check, "_in_fork", lambda verdict: verdict())


def test_all_that_names_a_model_is_looked_at(monkeypatch: pytest.MonkeyPatch, here: None) -> None:
    given: list[tuple[Any, ...]] = []
    monkeypatch.setattr(models, "load_catalogue", lambda *asked: given.append(asked))
    check.check_models(SETTINGS)
    assert given == [(Path("models.toml"), "m", "continue", "t")]

    def wrong(*asked: Any) -> None:
        raise SettingsError("CHAT_MODEL: is none.")

    monkeypatch.setattr(models, "load_catalogue", wrong)
    with pytest.raises(SettingsError, match=r"^CHAT_MODEL: is none\.$"):
        check.check_models(SETTINGS)


@pytest.mark.parametrize("wrong", [True, False])
def test_a_key_is_well_unless_the_provider_says_what_stays_so(
    monkeypatch: pytest.MonkeyPatch, here: None, wrong: bool
) -> None:
    asked: list[Any] = []

    class Catalogue(list[Any]):
        default = SimpleNamespace(id="m")

    async def ask(settings: Settings, key: ProviderKey, names: list[str], default: str) -> Any:
        asked.append((key.name, names, default))
        return SimpleNamespace(wrong=wrong, sentence="So it is.")

    known = Catalogue([SimpleNamespace(id="m"), SimpleNamespace(id="n")])
    monkeypatch.setattr(models, "load_catalogue", lambda *_: known)
    monkeypatch.setattr(address, "ask_models", ask)
    assert check._provider(SETTINGS, ProviderKey("a")) == ("So it is.", not wrong)
    assert asked == [("a", ["m", "n"], "m")]


async def test_a_tool_that_erases_takes_no_turn_over_and_closes_what_it_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    did: list[str] = []

    class Part:
        def __init__(self, name: str) -> None:
            self.name = name

        def drain(self) -> None:
            did.append("drain")

        async def open(self) -> None:
            did.append(f"open {self.name}")

        async def close(self) -> None:
            did.append(f"close {self.name}")

    async def erased(engine: Part, principal: str, seconds: float) -> str:
        did.append(f"erase {principal} {seconds}")
        raise LookupError

    monkeypatch.setattr(erase, "load_catalogue", lambda *_: "catalogue")
    monkeypatch.setattr(erase, "Store", lambda *_: Part("store"))
    monkeypatch.setattr(erase, "Groq", lambda _: "groq")
    monkeypatch.setattr(erase, "Engine", lambda *_: Part("engine"))
    monkeypatch.setattr(erase, "erase", erased)
    with pytest.raises(LookupError):
        await erase._erase(SETTINGS, "key.a")
    assert did == ["drain", "open engine", "erase key.a inf", "close engine", "close store"]


def test_an_erasure_prints_its_receipt_and_is_noted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[Any] = []
    outcomes: list[Erased | Exception] = []

    async def erased(settings: Settings, principal: str) -> Erased:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(erase, "_erase", erased)
    monkeypatch.setattr(erase, "operator", lambda: "user.me")
    monkeypatch.setattr(
        erase, "audit", SimpleNamespace(info=lambda event, **fields: told.append((event, fields)))
    )
    monkeypatch.setattr(erase, "receipt", lambda who, found: {"principal": who, "complete": found.complete})
    whole, half = (SimpleNamespace(sessions=2, turns=3, complete=complete) for complete in (True, False))
    outcomes += [whole, half, StoreUnavailable()]  # type: ignore[list-item]  # what is read of one
    assert erase.main(["key.a"], STORED) == 0
    with pytest.raises(Refused, match=r"^a session goes on answering; call again$"):
        erase.main(["key.a"], STORED)
    out = capsys.readouterr().out
    assert out == "".join(
        f'{{\n  "principal": "key.a",\n  "complete": {complete}\n}}\n' for complete in ("true", "false")
    )
    by = {"subject": "key.a", "sessions": 2, "turns": 3, "by": "user.me"}
    assert told == [("audit.person_erased", {**by, "complete": complete}) for complete in (True, False)]
    with pytest.raises(Refused, match=r"^the store does not answer"):
        erase.main(["key.a"], STORED)
    with pytest.raises(Refused, match=r"is no principal"):
        erase.main(["nobody"], STORED)
    with pytest.raises(Refused, match=r"^there is no store"):
        erase.main(["key.a"], STORED.model_copy(update={"redis_url": None}))
