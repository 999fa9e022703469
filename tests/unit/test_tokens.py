"""JWTs: what makes one valid, whom it stands for, and how often an issuer is asked for its keys."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import httpx
import jwt
import pytest

from service.api.auth import authenticator as authenticating
from service.api.auth import jwt as module
from service.api.auth.authenticator import Authenticator, Principal, _of_credential
from service.api.auth.jwt import Published, Verifier
from service.config.settings import Settings
from service.errors import ServiceError
from service.store.credentials import new_key
from service.store.keys import Keys
from tests.support.logged import logged_by

SECRET = "s" * 32
VALID: dict[str, Any] = {"sub": "u1", "iss": "i", "aud": "a"}


def settings(**more: Any) -> Settings:
    values: dict[str, Any] = {
        "auth": "jwt",
        "jwt_key": SECRET,
        "jwt_algorithms": "HS256",
        "jwt_issuer": "i",
        "jwt_audience": "a",
    }
    return Settings(_env_file=None, **{**values, **more})


def token(algorithm: str = "HS256", key: str = SECRET, **claims: Any) -> str:
    body = {**VALID, "exp": time.time() + 60, **claims}
    return jwt.encode({name: value for name, value in body.items() if value is not None}, key, algorithm)


async def test_a_valid_token_says_whose_it_is() -> None:
    claims = await Verifier(settings()).verify(token(scope="a b"))
    assert claims is not None
    assert (claims.subject, claims.issuer, claims.scopes) == ("u1", "i", frozenset({"a b", "a", "b"}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"aud": "other"},
        {"aud": None},
        {"iss": "other"},
        {"iss": None},
        {"exp": None},
        {"exp": 1},
        {"nbf": 2**40},
        {"sub": None},
        {"sub": ""},
        {"algorithm": "HS512"},
        {"algorithm": "none", "key": ""},
        {"key": "t" * 32},
        {"filler": "x" * 9_000},
    ],
    ids=str,
)
async def test_a_token_with_anything_wrong_is_none(wrong: dict[str, Any]) -> None:
    assert await Verifier(settings()).verify(token(**wrong)) is None


@pytest.mark.parametrize("nonsense", ["a.b.c", "..", ""])
async def test_nonsense_is_no_token(nonsense: str) -> None:
    assert await Verifier(settings()).verify(nonsense) is None


async def test_clocks_may_differ_by_the_leeway_and_no_more() -> None:
    verifier = Verifier(settings(jwt_leeway_seconds=30))
    assert await verifier.verify(token(exp=time.time() - 20))
    assert await verifier.verify(token(exp=time.time() - 40)) is None


async def nobody(ids: Sequence[str]) -> tuple[dict[str, None], bool]:
    return dict.fromkeys(ids), False


def authenticator(**more: Any) -> Authenticator:
    client = SimpleNamespace(unless_silent=lambda call: call)
    principals = SimpleNamespace(find=nobody)
    store = SimpleNamespace(client=client, credentials=None, principals=principals, keys=Keys("chat"))
    return Authenticator(settings(**more), cast(Any, store))


async def principal(found: Authenticator, **claims: Any) -> Principal:
    return await found._by_token(token(**claims), Verifier(found._settings))


async def test_a_subject_is_a_user_of_its_issuer() -> None:
    one, two = authenticator(), authenticator(jwt_issuer="i,j")
    assert (await principal(one)).id == (await principal(one)).id == "jwt.u1"
    assert (await principal(two)).id != (await principal(two, iss="j")).id


@pytest.mark.parametrize(
    ("more", "scope", "granted"),
    [
        ({}, "", {"chat"}),
        ({}, "admin", {"chat"}),
        ({"jwt_required_scope": "talk"}, "", set()),
        ({"jwt_required_scope": "talk"}, "talk", {"chat"}),
        ({"jwt_admin_scope": "root"}, "", {"chat"}),
        ({"jwt_admin_scope": "root"}, "root", {"chat", "admin"}),
        ({"jwt_required_scope": "talk", "jwt_admin_scope": "root"}, "root", {"admin"}),
    ],
)
async def test_scopes_are_those_of_the_settings(more: dict[str, str], scope: str, granted: set[str]) -> None:
    assert (await principal(authenticator(**more), scope=scope)).scopes == granted


@pytest.mark.parametrize("more", [{"revoked": 1}, {"expires": 1}])
def test_a_key_that_does_not_work_any_more_is_nobody(more: dict[str, Any]) -> None:
    credential = new_key("n")[1]
    assert _of_credential(credential).key_id == credential.id
    with pytest.raises(ServiceError) as refused:
        _of_credential(replace(credential, **more))
    assert refused.value.code == "unauthenticated"


# Published keys


class Issuer:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 10_000.0
        self.asked = 0
        self.away = False
        key = jwt.PyJWK({"kty": "oct", "k": "c2VjcmV0", "kid": "k1"}, "HS256")
        monkeypatch.setattr(module, "usable_keys", lambda *_: {"k1": {"HS256": key}})
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.keys = Published("https://issuer.test/jwks", ("HS256",))
        monkeypatch.setattr(self.keys, "_download", self._download)

    async def _download(self) -> dict[str, Any]:
        self.asked += 1
        if self.away:
            raise ValueError("away")
        return {}

    async def find(self, key_id: str = "k1") -> object:
        found = await self.keys.find(key_id, "HS256")
        if self.keys._fetching is not None:
            await self.keys._fetching
        return found


@pytest.fixture
async def issuer(monkeypatch: pytest.MonkeyPatch) -> Issuer:
    return Issuer(monkeypatch)


async def test_keys_are_fetched_once_and_again_after_five_minutes(issuer: Issuer) -> None:
    for _ in range(3):
        assert await issuer.find()
    issuer.now += 300
    assert await issuer.find()
    assert issuer.asked == 1
    issuer.now += 1
    assert await issuer.find()
    assert issuer.asked == 2


async def test_made_up_key_ids_ask_once_in_ten_seconds(issuer: Issuer) -> None:
    assert await issuer.find()
    issuer.now += 10.1
    for _ in range(5):
        assert await issuer.find("made up") is None
    assert issuer.asked == 2
    issuer.now += 10.1
    assert await issuer.find("made up") is None
    assert issuer.asked == 3


async def test_an_issuer_s_outage_is_bridged_for_an_hour(issuer: Issuer) -> None:
    assert await issuer.find()
    issuer.away = True
    issuer.now += 3_590
    assert await issuer.find()
    issuer.now += 20
    with pytest.raises(ServiceError) as caught:
        await issuer.find()
    assert (caught.value.code, caught.value.retry_after) == ("overloaded", 10)


@pytest.mark.parametrize(
    ("claim", "groups"),
    [
        (["a", "b c", "a", 7, "", "\ud800"], ("a", "b c")),
        ("a b", ("a b",)),
        (None, ()),
        ([str(number) for number in range(1_000)], tuple(str(number) for number in range(200))),
    ],
    ids=["some", "one name", "none", "a thousand"],
)
async def test_of_a_token_s_groups_the_first_two_hundred_are_looked_at(
    claim: Any, groups: tuple[str, ...]
) -> None:
    body = {**VALID, "exp": 2**40, "groups": claim}
    found = module._claims(body, settings())
    assert found is not None
    assert found.groups == groups


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("https://x.example/roles", {"https://x.example/roles": ["chat"]}),
        ("realm_access.roles", {"realm_access": {"roles": ["chat"]}}),
        ("admin", {"admin": True}),
    ],
)
def test_a_claim_is_named_by_its_name_or_by_a_path_to_it(name: str, body: dict[str, Any]) -> None:
    found = module._claims({**VALID, "exp": 2**40, **body}, settings(jwt_scope_claim=name))
    assert found is not None
    assert found.scopes == ({"true"} if name == "admin" else {"chat"})


async def test_a_token_of_another_algorithm_asks_the_issuer_nothing(issuer: Issuer) -> None:
    verifier = Verifier(settings(jwt_key=None, jwt_jwks_url="https://i.example/jwks", jwt_algorithms="RS256"))
    verifier._published = issuer.keys
    assert await verifier.verify(token()) is None
    assert issuer.asked == 0


async def test_a_list_of_keys_without_an_end_is_read_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while taken < 1_000:
            taken += 1
            yield b" " * 1_024

    client = httpx.AsyncClient
    answer = httpx.MockTransport(lambda _: httpx.Response(200, content=endless()))
    monkeypatch.setattr(httpx, "AsyncClient", lambda **more: client(transport=answer))
    with pytest.raises(ValueError, match="more than 262144 bytes"):
        await Published("https://i.example/jwks", ("RS256",))._download()
    assert taken == 257


async def test_what_an_operator_has_to_know_is_said_once_a_worker_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def told(count: int = 1, **more: Any) -> list[str]:
        found = authenticator(**more)

        async def counted() -> int:
            return count

        cast(Any, found._store).credentials = SimpleNamespace(count=counted)
        lines = logged_by(authenticating, monkeypatch)
        await found.open()
        await found.close()
        return [line["event"] for line in lines if line["log_level"] == "warning"]

    assert await told() == []
    assert await told(jwt_issuer="") == ["auth.jwt_wide"]
    assert await told(jwt_audience="") == ["auth.jwt_wide"]
    assert await told(jwt_audience="a,*") == ["auth.jwt_wide"]
    assert await told(jwt_key="short") == ["auth.jwt_short"]
    assert await told(auth="jwt,keys") == []
    assert await told(0, auth="jwt,keys") == ["auth.no_keys"]


async def test_a_token_s_right_ends_with_it_and_its_ticket_is_for_events_alone() -> None:
    found, end = authenticator(jwt_leeway_seconds=30, secret=SECRET), int(time.time()) + 60
    who = await principal(found, exp=end)
    assert who.expires == end + 30
    ticket, expires = await found.ticket(who, "s", "t")
    assert expires == end + 30
    by_ticket = await found._by_ticket(ticket, "s", "t")
    assert (by_ticket.id, by_ticket.scopes, by_ticket.expires) == (who.id, frozenset({"chat"}), end + 30)
