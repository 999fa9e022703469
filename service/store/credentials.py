"""API keys in Redis, and the secret that all replicas share. No secret is kept, only digests.

A key is `chat_<id>_<secret>`. Its id is public, its secret has 256 random bits, and what is
stored is SHA-256 of the whole: nothing that can be guessed needs a slow hash. The secret of a key's webhook
alone is stored as it is, since what is told is signed with it. A revoked or expired record stays listed for a
month. Who may do what, and caching, are api/'s.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any, Final, get_type_hints

from service import ids
from service.errors import StoreRefusesWrites
from service.store.connection import lua
from service.store.connection.typed_scripts import flat
from service.store.part import StorePart

SCOPES: Final = ("chat", "admin")

_ID_ALPHABET: Final = string.digits + string.ascii_lowercase
_ID_LENGTH: Final = 12
_SECRET_ALPHABET: Final = string.ascii_letters + string.digits
_SECRET_LENGTH: Final = 43  # 62^43 > 2^256
_KEY: Final = re.compile(rf"chat_([0-9a-z]{{{_ID_LENGTH}}})_[A-Za-z0-9]{{{_SECRET_LENGTH}}}\Z")
_KEPT_SECONDS: Final = 30 * 86_400  # for the list, and for questions about old log lines
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnLimits:
    """A caller's own bounds, in place of the settings'. None is the setting's, "" and 0 are none."""

    limit_sends: str | None = None
    limit_reads: str | None = None
    budget_tokens_per_minute: int | None = None
    budget_tokens_per_day: int | None = None
    budget_tokens_per_month: int | None = None
    budget_money_per_day: int | None = None  # nanos of the catalogue's currency
    budget_money_per_month: int | None = None
    max_running_turns: int | None = None

    def own(self) -> dict[str, Any]:
        """Those that are not the settings'."""
        return {name: value for name, value in self.limits().items() if value is not None}

    def limits(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in LIMITS}


LIMITS: Final = tuple(one.name for one in fields(OwnLimits))


@dataclass(frozen=True, slots=True)
class Credential(OwnLimits):
    """What is known of one key; times in s, None is unset."""

    id: str
    name: str
    owner: str | None
    scopes: tuple[str, ...]
    created: int
    digest: str
    expires: int | None = None
    revoked: int | None = None
    rotated: int | None = None
    last_used: int | None = None
    previous: str | None = None
    previous_until: int | None = None
    webhook_url: str | None = None
    webhook_secret: str | None = field(default=None, repr=False)

    @property
    def principal(self) -> str:
        """Keys of one owner are one principal; a key without owner is one of its own."""
        if self.owner is None:
            return ids.principal_id("key", self.id)
        return ids.principal_id("owner", self.owner)

    def told(self) -> dict[str, Any]:
        """For the audit line of who has made it."""
        return {"key": self.id, "name": self.name, "owner": self.owner, "scopes": list(self.scopes)}

    def state(self, now: float) -> str:
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "active"

    def matches(self, key: str, now: float) -> bool:
        """True for the key's secret, and for the one before while it has its grace."""
        given = digest(key)
        current = hmac.compare_digest(given, self.digest)
        before = hmac.compare_digest(given, self.previous or "") and now < (self.previous_until or 0)
        return current or before


# How a field of the record is read; `scopes` are apart.
_FIELDS: Final[dict[str, Callable[[bytes], Any]]] = {
    name: int if kind in (int, int | None) else bytes.decode
    for name, kind in get_type_hints(Credential).items()
    if name not in ("id", "scopes")
}


def new_key(name: str, *, owner: str | None = None, **more: Any) -> tuple[str, Credential]:
    """The text of a new key, to be shown once, and its record."""
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
    text = new_text(key_id)
    scopes = tuple(more.pop("scopes", None) or ("chat",))
    now = int(time.time())
    return text, Credential(key_id, name, owner, scopes, created=now, digest=digest(text), **more)


def new_text(key_id: str) -> str:
    return f"chat_{key_id}_" + "".join(secrets.choice(_SECRET_ALPHABET) for _ in range(_SECRET_LENGTH))


def id_of(key: str) -> str | None:
    """The id inside a key; None for what cannot be one of ours."""
    found = _KEY.match(key)
    return found[1] if found else None


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class Credentials(StorePart):
    async def create(self, credential: Credential) -> None:
        known = {name: value for name in _FIELDS if (value := getattr(credential, name)) is not None}
        end = credential.expires + _KEPT_SECONDS if credential.expires else 0
        await self._scripts.call(
            lua.create_key(
                key=self._keys.credential(credential.id),
                index=self._keys.credentials,
                now=time.time(),
                ends=end,
                id=credential.id,
                fields=flat({"v": _FORMAT, "scopes": ",".join(credential.scopes), **known}),
            )
        )

    async def get(self, key_id: str) -> Credential | None:
        name = self._keys.credential(key_id)
        fields = await self._client.run("get_key", self._redis.hgetall(name))
        return _load(key_id, fields) if fields else None

    async def all(self) -> list[Credential]:
        """Oldest first. Records that are gone leave the list."""
        found = []
        for raw in await self._client.run("list_keys", self._redis.zrange(self._keys.credentials, 0, -1)):
            credential = await self.get(raw.decode())
            if credential is not None:
                found.append(credential)
            else:
                with suppress(StoreRefusesWrites):
                    await self._client.run("list_keys", self._redis.zrem(self._keys.credentials, raw))
        return found

    async def count(self) -> int:
        return int(await self._client.run("list_keys", self._redis.zcard(self._keys.credentials)))

    async def rotate(self, key_id: str, grace_seconds: int = 0) -> str | None:
        """The key's new text. None when there is no such key, or it works no more."""
        text, now = new_text(key_id), int(time.time())
        done = await self._scripts.call(
            lua.rotate_key(
                key=self._keys.credential(key_id),
                digest=digest(text),
                now=now,
                previous_until=now + grace_seconds,
            )
        )
        return text if done else None

    async def revoke(self, key_id: str) -> bool:
        now = int(time.time())
        return await self._change(key_id, now + _KEPT_SECONDS, "revoked", now)

    async def change(self, key_id: str, fields: Mapping[str, Any]) -> bool:
        """Set fields; what is None is taken away. False where there is no such key."""
        given = {name: value for name, value in fields.items() if value is not None}
        removed = [name for name in fields if name not in given]
        return await self._change(key_id, 0, *flat(given), removed=removed)

    async def used(self, key_id: str) -> None:
        """Note that the key is in use; called once an hour or so."""
        await self._change(key_id, 0, "last_used", int(time.time()))

    async def _change(self, key_id: str, end: int, *fields: Any, removed: Sequence[str] = ()) -> bool:
        changing = lua.change_key(key=self._keys.credential(key_id), ends=end, fields=fields, removed=removed)
        return bool(await self._scripts.call(changing))

    async def secret(self) -> str:
        """A random secret that all replicas agree on; made by whoever asks first."""
        name = self._keys.secret
        raw = await self._client.run("secret", self._redis.get(name))
        while raw is None:
            await self._client.run("secret", self._redis.set(name, secrets.token_hex(32), nx=True))
            raw = await self._client.run("secret", self._redis.get(name))
        return raw.decode()


def _load(key_id: str, stored: dict[bytes, bytes]) -> Credential:
    known: dict[str, Any] = {"name": "", "owner": None, "created": 0, "digest": ""}
    known |= {
        name: read(raw) for name, read in _FIELDS.items() if (raw := stored.get(name.encode())) is not None
    }
    return Credential(id=key_id, scopes=tuple(stored.get(b"scopes", b"").decode().split(",")), **known)
