"""JWTs: verified by a configured key or by the issuer's published ones (JWKS).

The algorithms come from the settings, never from the token, and are of one kind with the key:
a public key can never pass as an HMAC secret. Published keys are fetched with bounds, off the
path of requests, except when the keys are older than ten minutes; a token with an unknown key id
makes us fetch them again, at most every ten seconds. Whom a token stands for is authenticator.py's.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from dataclasses import dataclass
from typing import Any, Final

import httpx
import jwt

from service.config.jwt_key import Keys, read_key, usable_keys
from service.config.settings import Settings
from service.config.validators import SHORTEST_SECRET
from service.errors import ServiceError
from service.eventloop.shared_task import result_of
from service.telemetry.logs import get_logger

_LONGEST_TOKEN: Final = 8_192
_MOST_GROUPS: Final = 200  # as many as Entra puts into a token; the others are not looked at
_FETCH_SECONDS: Final = 3.0
_FETCH_BYTES: Final = 262_144  # an issuer publishes a handful of keys of 1 KiB
_FRESH_SECONDS: Final = 300.0
_STALE_SECONDS: Final = 600.0  # beyond it a request waits for a fetch: a key may have been withdrawn
_KEPT_SECONDS: Final = 3_600.0  # an outage of the issuer that we bridge; a withdrawn key works so long, too
_RETRY_SECONDS: Final = 10.0

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Claims:
    subject: str
    issuer: str
    expires: float
    scopes: frozenset[str]  # what stands in the claims of CHAT_JWT_SCOPE_CLAIM
    groups: tuple[str, ...]  # of CHAT_JWT_GROUPS_CLAIM


class Verifier:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._published = (
            Published(settings.jwt_jwks_url, settings.jwt_allowed) if settings.jwt_jwks_url else None
        )
        key = read_key(settings.jwt_key.get_secret_value()) if settings.jwt_key else None
        self._key = key.secret or key.pem if key else ""
        self._given = usable_keys(key.jwks, settings.jwt_allowed) if key and key.jwks else None
        self.guessable = bool(key and key.secret) and len(self._key) < SHORTEST_SECRET
        warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)  # the settings are checked for that

    async def open(self) -> None:
        if self._published is not None:
            self._published.refresh()

    async def close(self) -> None:
        if self._published is not None:
            await self._published.close()

    async def verify(self, token: str) -> Claims | None:
        """None for a token that is not valid now. Raises overloaded while no key can be had."""
        if len(token) > _LONGEST_TOKEN:
            return None
        try:
            key = await self._key_for(token)
            if key is None:
                return None
            return _claims(self._decode(token, key), self._settings)
        except (jwt.PyJWTError, OverflowError):  # OverflowError: an `exp` beyond what a clock can say
            return None

    async def _key_for(self, token: str) -> Any:
        """None where no key of the algorithm is known under the token's key id."""
        if self._published is None and self._given is None:
            return self._key
        header = jwt.get_unverified_header(token)
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in self._settings.jwt_allowed:
            return None
        if self._published is not None:
            return await self._published.find(key_id, algorithm)
        assert self._given is not None
        return self._given.get(key_id, {}).get(algorithm)

    def _decode(self, token: str, key: Any) -> dict[str, Any]:
        settings = self._settings
        audience = None if "*" in settings.jwt_audience else list(settings.jwt_audience) or None
        return jwt.decode(
            token,
            key,
            algorithms=list(settings.jwt_allowed),
            leeway=settings.jwt_leeway_seconds,
            issuer=list(settings.jwt_issuer) or None,
            audience=audience,
            options={"require": ["exp", "sub"], "verify_aud": audience is not None},
        )


def _claims(body: dict[str, Any], settings: Settings) -> Claims | None:
    subject, issuer = body["sub"], body.get("iss", "")
    if not isinstance(subject, str) or not subject or not isinstance(issuer, str):
        return None
    if not _in_utf8(subject + issuer):
        return None
    claims = settings.jwt_scope_claim
    scopes = frozenset(value for name in claims for value in _values(_claim(body, name)))
    groups = _groups(_claim(body, settings.jwt_groups_claim)) if settings.jwt_groups_claim else ()
    return Claims(subject, issuer, float(body["exp"]), scopes, groups)


def _groups(claim: Any) -> tuple[str, ...]:
    """A list of names, or one name: it may hold blanks, so a text is not split."""
    named = claim if isinstance(claim, list) else [claim]
    found = dict.fromkeys(name for name in named if isinstance(name, str) and name and _in_utf8(name))
    return tuple(found)[:_MOST_GROUPS]


def _claim(body: Any, name: str) -> Any:
    """A claim by its name, which may be a URL, or by a path into objects (`realm_access.roles`)."""
    if name in body:
        return body[name]
    for part in name.split("."):
        body = body.get(part) if isinstance(body, dict) else None
    return body


def _values(claim: Any) -> list[str]:
    """Scopes are words in one text (RFC 8693) or a list; a flag is `true` or `false`."""
    if isinstance(claim, bool):
        return [str(claim).lower()]
    if isinstance(claim, str):
        return [claim, *claim.split()]
    return [part for part in claim if isinstance(part, str)] if isinstance(claim, list) else []


def _in_utf8(text: str) -> bool:
    """False for lone surrogates, which JSON can say and neither a key in Redis nor a log line can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Published:
    """The keys at a JWKS address, by key id and then by the algorithm that they are for."""

    def __init__(self, url: str, algorithms: tuple[str, ...]) -> None:
        self._url = url
        self._algorithms = algorithms
        self._keys: Keys = {}
        self._fetched = self._tried = self._ended = float(
            "-inf"
        )  # of fetches: last success, last begin, last end
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        now = time.monotonic()
        age = now - self._fetched
        known = key_id in self._keys and age <= _KEPT_SECONDS
        if not known or age > _FRESH_SECONDS:
            self.refresh()
        # During an outage of the issuer requests do not wait each time: `_ended` counts failed fetches too.
        if self._fetching is not None and (not known or now - self._ended > _STALE_SECONDS):
            await result_of(self._fetching)
        if time.monotonic() - self._fetched > _KEPT_SECONDS:
            raise ServiceError(
                "overloaded",
                "The keys of the tokens' issuer cannot be fetched; try again in 10 s.",
                retry_after=_RETRY_SECONDS,
            )
        return self._keys.get(key_id, {}).get(algorithm)

    def refresh(self) -> None:
        """Begin to fetch, unless that was tried a moment ago."""
        now = time.monotonic()
        if self._fetching is None and now - self._tried > _RETRY_SECONDS:
            self._tried = now
            self._fetching = asyncio.create_task(self._fetch(), name="jwks")

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                keys = usable_keys(await self._download(), self._algorithms)
            if not keys:
                raise ValueError("no usable key")
        except (httpx.HTTPError, TimeoutError, ValueError, RecursionError) as error:  # nested too deep
            log.warning("jwks.failed", error=type(error).__name__, reason=str(error)[:200])
        else:
            self._keys, self._fetched = keys, time.monotonic()
            log.info("jwks.fetched", keys=len(keys))
        finally:
            self._fetching, self._ended = None, time.monotonic()

    async def _download(self) -> Any:
        body = b""
        async with (
            httpx.AsyncClient(follow_redirects=False, trust_env=False) as client,
            client.stream("GET", self._url, headers={"Accept": "application/json"}) as answer,
        ):
            answer.raise_for_status()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > _FETCH_BYTES:
                    raise ValueError(f"more than {_FETCH_BYTES} bytes")
        return httpx.Response(200, content=body).json()
