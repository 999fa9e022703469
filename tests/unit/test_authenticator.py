"""Who was let in before: a ticket's owner, and a credential while its request goes on."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import Request

from service.api.auth.authenticator import ANONYMOUS, Authenticator, Principal
from service.config.settings import Settings
from service.errors import ServiceError
from service.store.credentials import Credential, digest, new_key

EVENTS = ("s", "t")


class Stored:
    """The record of one key."""

    def __init__(self, credential: Credential) -> None:
        self.credential: Credential | None = credential

    async def get(self, key_id: str) -> Credential | None:
        return self.credential

    async def used(self, key_id: str) -> None:
        pass


def opened(stored: Stored) -> Authenticator:
    """A worker that has just started, so that it remembers no key."""
    settings = Settings(_env_file=None, auth="keys", secret="x" * 32)
    client = SimpleNamespace(unless_silent=lambda call: call)
    return Authenticator(
        settings, cast(Any, SimpleNamespace(client=client, credentials=stored, principals=None))
    )


async def let_in(text: str, stored: Stored) -> Principal:
    scope = {"type": "http", "headers": [(b"x-api-key", text.encode())], "query_string": b""}
    return await opened(stored).identify(Request(scope))


async def by_ticket(ticket: str, stored: Stored) -> Principal:
    scope = {"type": "http", "headers": [], "query_string": f"ticket={ticket}".encode()}
    return await opened(stored).identify(Request(scope), events_of=EVENTS)


@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({}, True),
        ({"revoked": 1}, False),
        ({"expires": 1}, False),
        ({"digest": digest("new"), "previous_until": None}, False),
        ({"digest": digest("new"), "previous_until": 1}, False),
        ({"digest": digest("new"), "previous_until": int(time.time()) + 86_400}, True),
    ],
    ids=["as it was", "revoked", "expired", "replaced", "its grace is over", "in its grace"],
)
async def test_a_request_that_goes_on_is_as_valid_as_its_key_is_by_then(
    changes: dict[str, Any], valid: bool
) -> None:
    text, credential = new_key("web", owner="team")
    stored = Stored(credential)
    principal = await let_in(text, stored)
    stored.credential = replace(credential, previous=credential.digest, **changes)
    assert await opened(stored).still_valid(principal) is valid


async def test_a_request_of_a_key_that_is_gone_or_whose_credential_has_ended_is_valid_no_more() -> None:
    text, credential = new_key("web")
    stored = Stored(credential)
    principal = await let_in(text, stored)
    assert not await opened(stored).still_valid(replace(principal, expires=time.time()))
    stored.credential = None
    assert not await opened(stored).still_valid(principal)
    assert await opened(stored).still_valid(ANONYMOUS)


async def test_a_ticket_is_its_principal_s_and_no_later_owner_s_of_its_key() -> None:
    text, credential = new_key("web", owner="team")
    stored = Stored(credential)
    ticket, _ = await opened(stored).ticket(await let_in(text, stored), *EVENTS)
    assert (await by_ticket(ticket, stored)).id == "owner.team"
    for other in (replace(credential, owner="others"), replace(credential, revoked=1), None):
        stored.credential = other
        with pytest.raises(ServiceError, match="Send a valid API key or token"):
            await by_ticket(ticket, stored)


async def test_a_ticket_ends_with_its_credential_and_after_ten_minutes_at_most() -> None:
    text, credential = new_key("web", owner="team")
    stored = Stored(credential)
    principal, now = await let_in(text, stored), time.time()
    _, expires = await opened(stored).ticket(principal, *EVENTS)
    assert 599 <= expires - now <= 601
    _, expires = await opened(stored).ticket(replace(principal, expires=now + 60), *EVENTS)
    assert 59 <= expires - now <= 61


async def test_whoever_sends_a_credential_is_known_by_it_and_not_by_a_ticket() -> None:
    text, credential = new_key("web", owner="team")
    stored = Stored(credential)
    ticket, _ = await opened(stored).ticket(await let_in(text, stored), *EVENTS)
    scope = {
        "type": "http",
        "headers": [(b"x-api-key", b"chat_no")],
        "query_string": f"ticket={ticket}".encode(),
    }
    with pytest.raises(ServiceError):
        await opened(stored).identify(Request(scope), events_of=EVENTS)


async def test_a_refusal_says_how_to_be_known_and_nothing_of_why() -> None:
    text, credential = new_key("web", owner="team")
    refusals = []
    for given, found in ((text, None), (text, replace(credential, revoked=1)), ("", credential), ("x", None)):
        with pytest.raises(ServiceError) as caught:
            await let_in(given, Stored(cast(Any, found)))
        refusals.append(caught.value)
    assert {(one.code, one.status, one.message) for one in refusals} == {
        ("unauthenticated", 401, "Send a valid API key or token: `Authorization: Bearer ...`.")
    }
    assert [one.headers for one in refusals] == [{"WWW-Authenticate": "Bearer"}] * 4


async def test_a_key_has_its_scopes_its_limits_and_its_webhook() -> None:
    text, credential = new_key(
        "web", owner="team", scopes=("chat", "admin"), limit_sends="1/minute", max_running_turns=2
    )
    stored = Stored(replace(credential, webhook_url="https://x.example/", expires=2**40))
    found = await let_in(text, stored)
    assert (found.scopes, found.limit_sends, found.max_running_turns) == (
        frozenset(("chat", "admin")),
        "1/minute",
        2,
    )
    assert (found.hook, found.expires) == (credential.id, 2**40)
    assert (await let_in(text, Stored(credential))).hook == ""
