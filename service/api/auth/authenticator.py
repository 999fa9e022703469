"""Who is calling: credentials to a principal.

API keys and JWTs may be in use side by side; `none` is one anonymous principal, for local use.
Every refusal has the same status, sentence and headers, whatever its cause: the cause goes into
a metric. Keys are key_cache.py's, JWTs jwt.py's, tickets tickets.py's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fastapi import Request

from service import ids
from service.api.auth.key_cache import Keyring
from service.api.auth.principal_cache import PrincipalCache
from service.api.auth.tickets import TICKET_SECONDS, Permission, Tickets
from service.config.settings import Settings
from service.errors import ServiceError, StoreUnavailable
from service.store.credentials import SCOPES, Credential, OwnLimits
from service.store.principals import Kind, entry_id
from service.store.store import Store
from service.telemetry import metrics
from service.telemetry.logs import get_logger

if TYPE_CHECKING:
    from service.api.auth.jwt import Claims, Verifier

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Principal(OwnLimits):
    """The caller. Sessions, limits and budgets belong to `id`; the other fields are this credential's."""

    id: str
    scopes: frozenset[str] = frozenset()
    key_id: str = ""
    expires: float | None = None
    anonymous: bool = False
    hook: str = ""  # the key's id, where the key has a webhook of its own
    digest: str = field(default="", repr=False)  # of the key's present secret

    def told(self) -> dict[str, str]:
        """Fields of the audit lines about what it does."""
        return {"by": self.id, "by_key": self.key_id}


ANONYMOUS: Final = Principal(ids.principal_id("none", "anonymous"), frozenset(SCOPES), anonymous=True)


class Authenticator:
    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._modes = frozenset(settings.auth)
        self._keyring = Keyring(store.client, store.credentials)
        self._principals = PrincipalCache(store.client, store.principals)
        self._verifier = _verifier(settings) if "jwt" in self._modes else None
        self._tickets = Tickets(settings, store.credentials)

    async def open(self) -> None:
        """Say what an operator has to know, once per worker."""
        if "none" in self._modes:
            log.warning(
                "auth.none",
                note="CHAT_AUTH is none: whoever reaches this port is one and the same user, with all"
                " rights. For local use only; production takes keys or jwt.",
            )
        if self._verifier is not None:
            await self._verifier.open()
            self._judge_jwt(self._settings, self._verifier)
        if "keys" in self._modes:
            await self._count_keys()

    def _judge_jwt(self, settings: Settings, verifier: Verifier) -> None:
        if not settings.jwt_issuer or not settings.jwt_audience or "*" in settings.jwt_audience:
            log.warning(
                "auth.jwt_wide",
                issuer=settings.jwt_issuer,
                audience=settings.jwt_audience,
                note="without CHAT_JWT_ISSUER and CHAT_JWT_AUDIENCE every token under the key is taken.",
            )
        if verifier.guessable:
            log.warning("auth.jwt_short", note="CHAT_JWT_KEY can be guessed; production does not take it.")

    async def _count_keys(self) -> None:
        try:
            count = await self._store.credentials.count()
        except StoreUnavailable:
            return  # /readyz says so
        if count == 0:
            log.warning(
                "auth.no_keys",
                note="no API key has been made yet, so every call is 401:"
                " python -m service keys create --name NAME",
            )

    async def close(self) -> None:
        if self._verifier is not None:
            await self._verifier.close()

    async def identify(self, request: Request, *, events_of: tuple[str, str] | None = None) -> Principal:
        """The caller. `events_of` (session, turn) admits a ticket for these events.

        Raises unauthenticated, store_unavailable, overloaded.
        """
        if "none" in self._modes:
            return ANONYMOUS
        text, kind = _given(request)
        ticket = request.query_params.get("ticket")
        if events_of is not None and ticket and not text:
            return await self._by_ticket(ticket, *events_of)
        if not text:
            raise _refused("missing")
        if "keys" in self._modes and (text.startswith("chat_") or kind == "key"):
            return await self._by_key(text)
        if self._verifier is not None and kind == "bearer":
            return await self._by_token(text, self._verifier)
        raise _refused("unknown")

    async def _by_key(self, text: str) -> Principal:
        found = await self._keyring.find(text)
        if found is None:
            raise _refused("unknown")
        return _of_credential(found)

    async def _by_token(self, token: str, verifier: Verifier) -> Principal:
        claims = await verifier.verify(token)
        if claims is None:
            raise _refused("token")
        who = self._entry_id("jwt", claims.subject, claims.issuer)
        groups = [self._entry_id("group", name, claims.issuer) for name in claims.groups]
        return Principal(
            who,
            self._scopes_of(claims),
            expires=claims.expires + self._settings.jwt_leeway_seconds,
            **await self._principals.limits(who, groups),
        )

    def _scopes_of(self, claims: Claims) -> frozenset[str]:
        """The settings say which scopes of the token are ours: those of other applications do not count."""
        needed, admin = self._settings.jwt_required_scope, self._settings.jwt_admin_scope
        given = {
            "chat": needed is None or needed in claims.scopes,
            "admin": admin is not None and admin in claims.scopes,
        }
        return frozenset(scope for scope, has in given.items() if has)

    def _entry_id(self, kind: Kind, name: str, issuer: str) -> str:
        return entry_id(kind, name, issuer, self._settings.jwt_issuer)

    async def still_valid(self, principal: Principal) -> bool:
        """Would this caller, who was let in before, be let in now? Raises store_unavailable."""
        now = time.time()
        if principal.expires is not None and now >= principal.expires:
            return False
        if not principal.key_id:
            return True
        found = await self._keyring.by_id(principal.key_id)
        if found is None or found.state(now) != "active":
            return False
        # The secret may have been replaced since, and still be in its grace.
        return found.digest == principal.digest or now < (found.previous_until or 0)

    # Tickets

    async def ticket(self, principal: Principal, session_id: str, turn_id: str) -> tuple[str, int]:
        """A ticket for a turn's events, and when it ends (s). Raises store_unavailable."""
        expires = int(min(time.time() + TICKET_SECONDS, principal.expires or float("inf")))
        permission = Permission(principal.id, principal.key_id, expires)
        return await self._tickets.sign(permission, session_id, turn_id), expires

    async def _by_ticket(self, ticket: str, session_id: str, turn_id: str) -> Principal:
        permission = await self._tickets.verify(ticket, session_id, turn_id)
        if permission is None:
            raise _refused("ticket")
        if not permission.key_id:
            own = await self._principals.limits(permission.principal, ())
            return Principal(permission.principal, frozenset({"chat"}), expires=permission.expires, **own)
        found = await self._keyring.by_id(permission.key_id)
        if found is None or found.principal != permission.principal:
            raise _refused("ticket")
        return _of_credential(found)


def _verifier(settings: Settings) -> Verifier:
    # Imported here: most services verify no JWTs, and PyJWT takes 9 MiB of each worker.
    from service.api.auth.jwt import Verifier

    return Verifier(settings)


def _given(request: Request) -> tuple[str, str]:
    """The credential that a request carries, and how it came."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and text.strip():
        return text.strip(), "bearer"
    return request.headers.get("x-api-key", "").strip(), "key"


def _of_credential(found: Credential) -> Principal:
    state = found.state(time.time())
    if state != "active":
        raise _refused(state)
    return Principal(
        found.principal,
        frozenset(found.scopes),
        key_id=found.id,
        expires=found.expires,
        hook=found.id if found.webhook_url else "",
        **found.limits(),
        digest=found.digest,
    )


def _refused(reason: str) -> ServiceError:
    metrics.auth_refusals.labels(reason=reason).inc()
    return ServiceError(
        "unauthenticated",
        "Send a valid API key or token: `Authorization: Bearer ...`.",
        headers={"WWW-Authenticate": "Bearer"},
    )


def forbidden(scope: str) -> ServiceError:
    metrics.auth_refusals.labels(reason="scope").inc()
    return ServiceError("forbidden", f"This needs a credential with the scope `{scope}`.")
