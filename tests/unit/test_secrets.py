"""Secrets by file: what a container's runtime mounts, without a word of it in the environment."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from service.config.loading import load_settings, unknown_names
from service.config.settings import SettingsError


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHAT_SECRETS_DIR", str(tmp_path))
    for name in ("GROQ_API_KEY", "CHAT_REDIS_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_a_secret_is_read_from_the_file_that_is_named_like_its_variable(secrets: Path) -> None:
    (secrets / "groq_api_key").write_text("gsk_from_a_file\n")
    settings = load_settings()
    assert settings.groq_api_key
    assert settings.groq_api_key.get_secret_value() == "gsk_from_a_file"
    assert "CHAT_SECRETS_DIR" not in unknown_names()


def test_the_environment_wins_over_a_file(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (secrets / "groq_api_key").write_text("gsk_from_a_file")
    monkeypatch.setenv("GROQ_API_KEY", "gsk_from_the_environment")
    settings = load_settings()
    assert settings.groq_api_key
    assert settings.groq_api_key.get_secret_value() == "gsk_from_the_environment"


def test_an_empty_file_is_no_secret(secrets: Path) -> None:
    (secrets / "groq_api_key").write_text("\n")
    assert load_settings().groq_api_key is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://redis:6379/0", "redis://:p%40ss%2Fw@redis:6379/0"),
        ("redis://chat@redis:6379/0", "redis://chat:p%40ss%2Fw@redis:6379/0"),
        ("redis://:own@redis:6379/0", "redis://:own@redis:6379/0"),
        ("redis+sentinel://a:1,b:2/main", "redis+sentinel://:p%40ss%2Fw@a:1,b:2/main"),
        ("unix:///run/a:b@c/redis.sock", "unix://:p%40ss%2Fw@/run/a:b@c/redis.sock"),
        (
            "redis+sentinel://u@h:1/main?sentinel_password=a:b@c",
            "redis+sentinel://u:p%40ss%2Fw@h:1/main?sentinel_password=a:b@c",
        ),
    ],
)
def test_the_password_of_a_file_goes_into_the_url(
    secrets: Path, monkeypatch: pytest.MonkeyPatch, url: str, expected: str
) -> None:
    (secrets / "chat_redis_password").write_text("p@ss/w\n")
    monkeypatch.setenv("CHAT_REDIS_URL", url)
    settings = load_settings()
    assert settings.redis_url
    assert settings.redis_url.get_secret_value() == expected
    assert "p@ss" not in repr(settings)


@pytest.mark.parametrize("name", ["groq_api_key", ".env"])
def test_a_file_that_is_no_text_is_named_and_not_quoted(secrets: Path, name: str) -> None:
    (secrets / name).write_bytes(b"GROQ_API_KEY=gsk_x\xff\xfe")
    with pytest.raises(SettingsError, match=rf"{name} cannot be read: it is no text in UTF-8") as caught:
        load_settings()
    assert "gsk_x" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_file_that_no_setting_reads_may_be_anything(secrets: Path) -> None:
    (secrets / "tls.key").write_bytes(b"\xff\xfe")
    assert load_settings().groq_api_key is None


@pytest.mark.parametrize(
    ("method", "name"), [("read_text", "groq_api_key"), ("read_text", ".env"), ("iterdir", "")]
)
def test_a_file_or_folder_that_may_not_be_read_is_named_with_the_remedy(
    secrets: Path, monkeypatch: pytest.MonkeyPatch, method: str, name: str
) -> None:
    if name:
        (secrets / name).write_text("GROQ_API_KEY=gsk_x")

    def refuse(path: Path, **_: Any) -> None:  # not by its mode: tests may run as root, who reads all
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    place = ".env" if name == ".env" else secrets / name
    assert str(caught.value) == (
        f"{place} cannot be read (Permission denied): make it, and the folder that it is in,"
        f" readable for the user with the id {os.geteuid()}."
    )
