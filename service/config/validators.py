"""Checks of settings beyond their types: files that can be read, addresses, keys. For settings.py.

Each check raises ValueError with a sentence that holds nothing of the value: a file may be a
secret, and a URL may carry one. Addresses of Redis are redis_url.py's.
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

if TYPE_CHECKING:
    from service.config.settings import Settings

#: seconds from the end of a turn's time to its seal and the end of its readers; 15 of them for the store
TURN_MARGIN_SECONDS: Final = 60
_NO_PLACE: Final = (
    "the URL needs a host, and a port that is a number if any, like https://api.example.com:443"
)

_LIMIT: Final = re.compile(r"\s*\d+\s*(/|per)\s*\d*\s*(second|minute|hour|day|month|year)s?\s*", re.I | re.A)
#: JWT algorithms, by the kind of key that they take; `none` is in neither
JWT_SYMMETRIC: Final = ("HS256", "HS384", "HS512")
JWT_ASYMMETRIC: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
#: RFC 7518: a key for HS256 has 256 bits
SHORTEST_SECRET: Final = 32


def check_limit(value: str) -> str:
    """A request limit in slowapi's grammar, or "" for none. Raises ValueError."""
    if value.strip() and not all(_LIMIT.fullmatch(part) for part in value.split(";")):
        raise ValueError('a limit looks like "100/minute", several are parted by ";", "" is off')
    return value.strip()


def split_commas(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def each(check: Callable[[str], object]) -> AfterValidator:
    """Applies a check to all words of a setting."""

    def check_all(words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            check(word)
        return words

    return AfterValidator(check_all)


def check_network(text: str) -> None:
    ipaddress.ip_network(text, strict=False)


def one_of(*known: str) -> Callable[[str], None]:
    def check(word: str) -> None:
        if word not in known:
            raise ValueError(f"{word!r} is not one of {', '.join(known)}")

    return check


def check_secret(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < SHORTEST_SECRET:
        raise ValueError(f"a secret has at least {SHORTEST_SECRET} characters (openssl rand -hex 32)")
    return value


def files_in(folder: Path) -> list[Path]:
    """The files of a folder, none if there is no folder."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ValueError(_forbidden(folder, error)) from error


def check_readable(file: Path) -> None:
    """Checks that a file, if it exists, is text in UTF-8."""
    try:
        if stat.S_ISREG(file.stat().st_mode):  # a pipe can be read only once
            file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ValueError(_forbidden(file, error)) from error
    except UnicodeDecodeError:
        # Without its cause, which quotes the content.
        raise ValueError(f"{file} cannot be read: it is no text in UTF-8; write it anew") from None


def _forbidden(path: Path, error: OSError) -> str:
    return (
        f"{path} cannot be read ({error.strerror}): make it, and the folder that it is in,"
        f" readable for the user with the id {os.geteuid()}"
    )


def check_http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        sound = bool(parts.hostname) and parts.port != 0
    except ValueError:  # it quotes the URL
        raise ValueError(_NO_PLACE) from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("the URL has to start with http:// or https://")
    if not sound:
        raise ValueError(_NO_PLACE)
    return url


def check_lifetimes(settings: Settings) -> None:
    """Checks that nothing which a turn needs expires while it runs (all in seconds).

    If the session expired first, the answer would stand in a new one under another question. If the log
    expired first, the answer would fail, and a repeat with its idempotency key would find no log.
    """
    turn, log = settings.turn_timeout_seconds, settings.log_ttl_seconds
    session, ephemeral = settings.session_ttl_seconds, settings.ephemeral_ttl_seconds
    for name, seconds in (("SESSION", session), ("EPHEMERAL", ephemeral), ("LOG", log)):
        if seconds < turn + TURN_MARGIN_SECONDS:
            raise ValueError(
                f"CHAT_{name}_TTL_SECONDS: {seconds} s end before an answer may; set it to at least"
                f" {turn + TURN_MARGIN_SECONDS:g} (CHAT_TURN_TIMEOUT_SECONDS and a minute), or lower that one"
            )
    idempotency = settings.idempotency_ttl_seconds
    if log < idempotency:
        raise ValueError(
            f"CHAT_LOG_TTL_SECONDS: {log} s end before the {idempotency} s of CHAT_IDEMPOTENCY_TTL_SECONDS,"
            " and a repeat has to find its answer's log; raise it, or lower that one"
        )


def check_waits(settings: Settings) -> None:
    """Checks that waiting for replicas fits into other times (all in seconds).

    A call may wait for the replicas of calls before it and then for its own, within the timeout; a lease is
    renewed every third of it.
    """
    seconds = settings.redis_wait_seconds
    if settings.redis_url is None:
        raise ValueError("CHAT_REDIS_WAIT_REPLICAS: needs CHAT_REDIS_URL; the private store has no replicas")
    for name, longest, of in (
        ("CHAT_REDIS_TIMEOUT_SECONDS", settings.redis_timeout_seconds / 2, "half"),
        ("CHAT_LEASE_SECONDS", settings.lease_seconds / 3, "a third"),
        ("CHAT_STORE_HOLD_SECONDS", settings.store_hold_seconds / 2, "half"),
    ):
        if seconds > longest:
            raise ValueError(
                f"CHAT_REDIS_WAIT_SECONDS: {seconds:g} s are more than {of} of {name};"
                f" set it to at most {longest:g}, or raise that one"
            )
