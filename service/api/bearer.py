"""JWTs: verified by a configured key or by the issuer's published ones (JWKS).

The algorithms come from the settings, never from the token, and are of one kind with the key:
a public key can never pass as an HMAC secret. Published keys are fetched with bounds, off the
path of requests unless nobody has asked for long; an unknown key id asks again, but not more
often than every ten seconds, whoever sends it. Whom a token stands for is auth.py's.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from dataclasses import dataclass
from typing import Any, Final

import httpx
import jwt

from service.config.settings import Settings
from service.errors import ServiceError
from service.logs import get_logger

_LONGEST_TOKEN: Final = 8_192
_FETCH_SECONDS: Final = 3.0
_FETCH_BYTES: Final = 262_144  # an issuer publishes a handful of keys of 1 KiB
_FRESH_SECONDS: Final = 300.0
_STALE_SECONDS: Final = 600.0  # a key may have been withdrawn in so long a time without a question
_KEPT_SECONDS: Final = 3_600.0  # an issuer's outage, against a withdrawn key that goes on working
_RETRY_SECONDS: Final = 10.0

log = get_logger(__name__)

Keys = dict[str | None, dict[str, jwt.PyJWK]]


@dataclass(frozen=True, slots=True)
class Claims:
    subject: str
    issuer: str
    expires: float
    scopes: frozenset[str] | None  # None: the token says nothing of scopes


class Verifier:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._published = (
            Published(settings.jwt_jwks_url, settings.jwt_allowed) if settings.jwt_jwks_url else None
        )
        self._key = ""
        if settings.jwt_key:
            # A PEM in one line of an .env file has its line ends written as \n.
            self._key = settings.jwt_key.get_secret_value().replace("\\n", "\n")
        warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)  # settings.py has its say on that

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
            key: Any = self._key
            if self._published is not None:
                header = jwt.get_unverified_header(token)
                algorithm = header.get("alg")
                if algorithm not in self._settings.jwt_allowed:
                    return None
                key = await self._published.find(header.get("kid"), algorithm)
                if key is None:
                    return None
            return _claims(self._decode(token, key))
        except (jwt.PyJWTError, OverflowError):  # an `exp` beyond what a clock can say
            return None

    def _decode(self, token: str, key: Any) -> dict[str, Any]:
        settings = self._settings
        return jwt.decode(
            token, key, algorithms=list(settings.jwt_allowed), leeway=settings.jwt_leeway_seconds,
            issuer=list(settings.jwt_issuer) or None, audience=list(settings.jwt_audience) or None,
            options={"require": ["exp", "sub"], "verify_aud": bool(settings.jwt_audience)},
        )  # fmt: skip


def _claims(body: dict[str, Any]) -> Claims | None:
    subject, issuer = body["sub"], body.get("iss", "")
    if not isinstance(subject, str) or not subject or not isinstance(issuer, str):
        return None
    if not _in_utf8(subject + issuer):
        return None
    scopes = None
    for name in ("scope", "scp"):
        value = body.get(name)
        if isinstance(value, str):
            value = value.split()
        if isinstance(value, list):
            scopes = (scopes or frozenset()) | {part for part in value if isinstance(part, str)}
    return Claims(subject, issuer, float(body["exp"]), scopes)


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
        self._fetched = self._tried = self._ended = float("-inf")  # last success, begin and end
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        now = time.monotonic()
        age = now - self._fetched
        known = key_id in self._keys and age <= _KEPT_SECONDS
        if not known or age > _FRESH_SECONDS:
            self.refresh()
        # The issuer's outage makes nobody wait again: a fetch that has failed is an end too.
        if self._fetching is not None and (not known or now - self._ended > _STALE_SECONDS):
            await asyncio.shield(self._fetching)
        if time.monotonic() - self._fetched > _KEPT_SECONDS:
            raise ServiceError(
                "overloaded", "The keys of the tokens' issuer cannot be fetched; try again in 10 s.",
                retry_after=_RETRY_SECONDS,
            )  # fmt: skip
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
                keys = _usable(await self._download(), self._algorithms)
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


def _usable(document: Any, algorithms: tuple[str, ...]) -> Keys:
    """Public signing keys; a single key also answers for tokens that name none."""
    found: Keys = {}
    entries = document.get("keys") if isinstance(document, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("kty") == "oct" or entry.get("use", "sig") != "sig":
            continue
        if not all(isinstance(entry.get(name), str | None) for name in ("kid", "alg")):
            continue
        made = _for_each_algorithm(entry, algorithms)
        if made:
            found[entry.get("kid")] = made
    if len(found) == 1:
        found[None] = next(iter(found.values()))
    return found


def _for_each_algorithm(entry: dict[str, Any], allowed: tuple[str, ...]) -> dict[str, jwt.PyJWK]:
    """A published key, for the allowed algorithms that it may be used with."""
    named = entry.get("alg")
    if named and named not in allowed:
        return {}
    names: tuple[str | None, ...] = (named,)
    if not named and entry.get("kty") == "RSA":
        # `alg` is optional, and an RSA key fits several algorithms; PyJWT alone would take RS256.
        names = tuple(name for name in allowed if name.startswith(("RS", "PS")))
    made = {}
    for name in names:
        try:
            key = jwt.PyJWK(entry, algorithm=name)
        except jwt.PyJWTError:
            continue  # a kind of key that we do not know, beside those that we do
        if key.algorithm_name in allowed:
            made[key.algorithm_name] = key
    return made
