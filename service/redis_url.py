"""What CHAT_REDIS_URL may say: one server, a Sentinel's, a Cluster's. Clients are made by store/client.py."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlsplit

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


def check_redis_url(url: str) -> None:
    """Raises ValueError, in a sentence without the credentials."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError("the URL has to start with one of " + ", ".join(f"{s}://" for s in SCHEMES))
    places, several = parts.netloc.rpartition("@")[2], "+" in parts.scheme
    for place in places.split(",") if several else [places]:
        if not _is_place(place, named=several):
            # Which, is not told: a password with one of these characters ends in there.
            raise ValueError(
                "each host in the URL is host or host:port; a / ? # or @ in a password is %2F %3F %23 %40"
            )


def _is_place(place: str, *, named: bool) -> bool:
    try:
        parts = urlsplit(f"//{place}")
        return parts.port != 0 and (bool(parts.hostname) or not named)
    except ValueError:
        return False


def with_password(url: SecretStr, password: SecretStr) -> SecretStr:
    """CHAT_REDIS_PASSWORD in the URL, unless it has one of its own."""
    scheme, _, rest = url.get_secret_value().partition("://")
    userinfo, at, place = rest.rpartition("@")
    if ":" in userinfo:
        return url
    secret = quote(password.get_secret_value(), safe="")
    return SecretStr(f"{scheme}://{userinfo if at else ''}:{secret}@{place}")
