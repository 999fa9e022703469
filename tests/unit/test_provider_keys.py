"""Several API keys of the provider: how they are named, read again, and which one a call is made with."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.config.loading import load_settings
from service.config.provider_keys import KeySource, ProviderKey, parse_keys
from service.config.settings import Settings, SettingsError
from service.engine.background import Background
from service.engine.pacing.governor import Permit
from service.engine.pacing.provider_keys import ProviderKeys
from service.errors import UpstreamError
from service.store.pacing import Bucket, Circuit, Pace
from tests.unit.test_governor import ONE, TWO, refusal

A, B = ProviderKey("a", "gsk_a"), ProviderKey("b", "gsk_b")


@pytest.mark.parametrize(
    "text",
    ["a=gsk_a,b=gsk_b", "a=gsk_a\nb=gsk_b\n", " a = gsk_a , b=gsk_b ,", "# two\na=gsk_a # one\n\nb=gsk_b"],
)
def test_keys_are_named_by_lines_or_commas(text: str) -> None:
    assert parse_keys(text) == [A, B]


@pytest.mark.parametrize("text", ["gsk_secret", "a=", "=gsk_secret", "a b=gsk_secret", "a=gsk_secret x"])
def test_what_is_no_named_key_is_refused_without_saying_it(text: str) -> None:
    with pytest.raises(SettingsError, match="GROQ_API_KEYS: entry 1 is not name=key") as refused:
        parse_keys(text)
    assert "secret" not in str(refused.value)


def settings(tmp_path: Path, **fields: Any) -> Settings:
    return Settings(_env_file=None, secrets_dir=tmp_path, **fields)


def test_a_key_shows_its_secret_nowhere(tmp_path: Path) -> None:
    assert "gsk_a" not in repr(A)
    assert "gsk_a" not in repr(settings(tmp_path, GROQ_API_KEYS="a=gsk_a"))


def test_the_single_key_comes_first_then_the_named_ones_then_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("b=gsk_b\n")
    source = KeySource(
        settings(tmp_path, GROQ_API_KEY="gsk_0", GROQ_API_KEYS="a=gsk_a", GROQ_API_KEYS_FILE=file)
    )
    assert source.read() == (ProviderKey("default", "gsk_0"), A, B)


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a is named twice"):
        KeySource(settings(tmp_path, GROQ_API_KEYS="a=gsk_a,a=gsk_b")).read()


@pytest.mark.parametrize("name", ["groq_api_key", "groq_api_keys"])
def test_a_file_of_secrets_that_is_replaced_is_read_again(tmp_path: Path, name: str) -> None:
    def text(secret: str) -> str:
        return secret if name == "groq_api_key" else f"a={secret}"

    (tmp_path / name).write_text(text("gsk_1") + "\n")
    given = {name.upper(): text("gsk_1")}  # as pydantic has read it
    source = KeySource(settings(tmp_path, **given))
    assert [key.secret for key in source.read()] == ["gsk_1"]
    assert not source.changed()
    before = (tmp_path / name).stat()
    (tmp_path / "new").write_text(text("gsk_2") + "\n")  # of the same size, and of the same time
    os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(tmp_path / "new", tmp_path / name)
    assert source.changed()
    assert [key.secret for key in source.read()] == ["gsk_2"]
    assert not source.changed()


def test_what_stands_in_the_environment_wins_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "groq_api_key").write_text("gsk_file")
    assert [key.secret for key in KeySource(settings(tmp_path, GROQ_API_KEY="gsk_env")).read()] == ["gsk_env"]


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"GROQ_API_KEYS": "gsk_x"}, "GROQ_API_KEYS: entry 1 is not name=key"),
        ({"GROQ_API_KEYS_FILE": "/nowhere/keys"}, "GROQ_API_KEYS_FILE: /nowhere/keys cannot be read"),
        ({"CHAT_PROVIDER_KEY_WEIGHTS": "a=1001"}, "CHAT_PROVIDER_KEY_WEIGHTS: 'a=1001' is not name=weight"),
        ({"CHAT_PROVIDER_KEY_WEIGHTS": "a=many"}, "CHAT_PROVIDER_KEY_WEIGHTS: 'a=many' is not name=weight"),
    ],
)
def test_wrong_keys_stop_the_boot(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], sentence: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=sentence):
        load_settings(_env_file=None)


class Shared:
    """In the store's place, of all keys: which of them have no room, and which circuits are open."""

    def __init__(self, of: str = "") -> None:
        self.of_key = of
        self.full: dict[str, float] = {}
        self.refused_keys: dict[str, Circuit] = {}

    def of(self, name: str, secret: str) -> Shared:
        found = Shared(name)
        found.full, found.refused_keys = self.full, self.refused_keys
        return found

    async def pace(self, model: str, report: Any, asks: Any) -> Pace:
        if wait := self.full.get(f"{self.of_key} {model}"):
            return Pace(1, True, [], wait, wait, 0.0, False, {"rpm": Bucket(60, 0, 60.0)})
        return Pace(1, True, [(-1.0, 0.0)] * len(asks), 0.0, 0.0, 0.0, False, {"rpm": Bucket(60, 9, 60.0)})

    async def open_circuit(self, reason: str) -> Circuit:
        return self.refused_keys.setdefault(self.of_key, Circuit(reason, 5.0, True))

    async def may_probe(self) -> Circuit:
        return self.refused_keys.get(self.of_key, Circuit())


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    found = Background()
    yield found
    await found.close()


def keys_of(shared: Shared, background: Background, tmp_path: Path, **fields: Any) -> ProviderKeys:
    given = settings(tmp_path, **{"GROQ_API_KEYS": "a=gsk_a,b=gsk_b", **fields})
    return ProviderKeys(given, shared, background)  # type: ignore[arg-type]  # Shared is all that it calls


async def admit(keys: ProviderKeys, left: float = 0.0, **more: Any) -> Permit:
    return await keys.admit("p", [ONE, TWO], 10, 400, left, **more)


async def told(keys: ProviderKeys, error: UpstreamError) -> None:
    """A call that ends so, and what becomes known of it."""
    with contextlib.suppress(UpstreamError), await admit(keys):
        raise error
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_first_key_with_room_is_used_before_any_fallback(
    background: Background, tmp_path: Path
) -> None:
    shared = Shared()
    keys = keys_of(shared, background, tmp_path)
    assert (await admit(keys)).key == A
    shared.full = {"a one": 7.0}
    permit = await admit(keys_of(shared, background, tmp_path))
    assert (permit.key, permit.model) == (B, ONE)
    shared.full = {"a one": 7.0, "b one": 3.0}
    permit = await admit(keys_of(shared, background, tmp_path))
    assert (permit.key, permit.model) == (A, TWO)
    shared.full |= {"a two": 9.0, "b two": 8.0}
    with pytest.raises(UpstreamError) as refused:
        await admit(keys_of(shared, background, tmp_path))
    assert (refused.value.kind, refused.value.retry_after) == ("held", 3)


async def test_a_key_that_is_refused_is_passed_over_and_said_by_name(
    background: Background, tmp_path: Path
) -> None:
    keys = keys_of(Shared(), background, tmp_path)
    await told(keys, refusal("auth", circuit="auth"))
    assert keys.state() == {"a": "auth", "b": "ok"}
    assert keys.known == "ok"
    assert (await admit(keys)).key == B
    assert keys.others({B}) is False
    await told(keys, refusal("auth", circuit="auth"))
    assert keys.known == "auth"
    with pytest.raises(UpstreamError) as refused:
        await admit(keys)
    assert (refused.value.kind, refused.value.circuit) == ("circuit", "auth")


async def test_a_turn_does_not_come_back_to_a_key_that_has_refused_it(
    background: Background, tmp_path: Path
) -> None:
    keys = keys_of(Shared(), background, tmp_path)
    assert (await admit(keys, refused={A})).key == B
    assert keys.others({A})
    assert not keys.others({A, B})


async def test_weights_share_the_calls_and_0_comes_last(background: Background, tmp_path: Path) -> None:
    shared = Shared()
    keys = keys_of(shared, background, tmp_path, provider_key_weights="a=3,b=1")
    used = Counter([(await admit(keys)).key.name for _ in range(800)])
    assert 500 < used["a"] < 700
    keys = keys_of(shared, background, tmp_path, provider_key_weights="a=0,b=1")
    assert {(await admit(keys)).key for _ in range(50)} == {B}
    shared.full = {"b one": 7.0}
    keys = keys_of(shared, background, tmp_path, provider_key_weights="a=0,b=1")
    assert (await admit(keys)).key == A


async def test_keys_of_a_changed_file_are_taken_and_what_is_known_of_the_others_is_kept(
    background: Background, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text("a=gsk_a\nb=gsk_b\n")
    keys = keys_of(Shared(), background, tmp_path, GROQ_API_KEYS="", GROQ_API_KEYS_FILE=file)
    await told(keys, refusal("auth", circuit="auth"))
    file.write_text("a=gsk_a\nc=gsk_c\n")
    keys.reload()
    assert keys.state() == {"a": "auth", "c": "ok"}
    file.write_text("nonsense")
    keys.reload()
    assert keys.state() == {"a": "auth", "c": "ok"}  # as it was
    file.write_text("a=gsk_new\n")
    keys.reload()
    assert keys.state() == {"a": "ok"}
    assert (await admit(keys)).key.secret == "gsk_new"
