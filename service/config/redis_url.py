"""CHAT_REDIS_URL: one server, Sentinels or a Cluster. Clients: store/connection/connecting.py."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

from pydantic import SecretStr

SCHEMES: Final = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)


def parts_of(url: str) -> tuple[SplitResult, list[str]]:
    """The URL with one name in the place of its hosts, and the hosts. Raises ValueError.

    Split by hand: later patches of Python refuse several addresses in brackets in `urlsplit`.
    """
    scheme, userinfo, hosts, rest = _split(url)
    several = hosts.split(",") if "+" in scheme else [hosts]
    return urlsplit(f"{scheme}://{userinfo}host{rest}"), several


def check_redis_url(url: str) -> None:
    """Raises ValueError, in a sentence without the credentials."""
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise ValueError("the URL has to start with one of " + ", ".join(f"{s}://" for s in SCHEMES))
    try:
        hosts = [urlsplit(f"//{host}") for host in parts_of(url)[1]]
        sound = all(host.port != 0 and (host.hostname or "+" not in scheme) for host in hosts)
    except ValueError:
        sound = False
    if not sound:
        # The host is not named: it may be the end of a password with one of these characters.
        raise ValueError(
            "each host in the URL is host or host:port; in a password / ? # @ are %2F %3F %23 %40"
        )
    _check_path(parts_of(url)[0])


def _check_path(parts: SplitResult) -> None:
    """Checks what follows the hosts: clients would take a wrong database for 0, or fail at each call."""
    path = parts.path.strip("/")
    databases = parse_qs(parts.query).get("db", [])
    if parts.scheme == "unix":
        if not path:
            raise ValueError("unix:// needs the path of a socket, like unix:///run/redis.sock")
    elif parts.scheme.endswith("+sentinel"):
        databases.append(path.partition("/")[2])
    elif not parts.scheme.endswith("+cluster"):
        databases.append(path)
    if not all(re.fullmatch("[0-9]*", database) for database in databases):
        raise ValueError("the database, which ends the path in the URL, has to be a number")


def without_credentials(url: str) -> str:
    """The URL as people may see it."""
    parts, hosts = parts_of(url)
    return f"{parts.scheme}://{','.join(hosts)}{parts.path}"


def with_password(url: SecretStr, password: SecretStr) -> SecretStr:
    """CHAT_REDIS_PASSWORD in the URL, unless it has one of its own."""
    scheme, userinfo, hosts, rest = _split(url.get_secret_value())
    if ":" in userinfo:
        return url
    secret = quote(password.get_secret_value(), safe="")
    return SecretStr(f"{scheme}://{userinfo.removesuffix('@')}:{secret}@{hosts}{rest}")


def _split(url: str) -> tuple[str, str, str, str]:
    """Scheme, userinfo with its @, hosts, and the rest. An @ in the path or query ends no userinfo."""
    scheme, _, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    userinfo, at, hosts = authority.rpartition("@")
    return scheme, userinfo + at, hosts, rest[len(authority) :]
