"""API keys: their shape, what is stored of them, when they work."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import asdict, replace

import pytest

from service import ids
from service.store.credentials import digest, id_of, new_key, new_text


def test_a_key_has_an_id_and_a_secret_of_256_bits() -> None:
    text, credential = new_key("web")
    assert re.fullmatch(r"chat_[0-9a-z]{12}_[A-Za-z0-9]{43}", text)
    assert 62**43 > 2**256
    assert id_of(text) == credential.id
    assert len({new_key("web")[0] for _ in range(100)}) == 100


def test_a_record_holds_a_digest_and_nothing_of_the_secret() -> None:
    text, credential = new_key("web", owner="team")
    secret = text.rpartition("_")[2]
    assert credential.digest == hashlib.sha256(text.encode()).hexdigest()
    assert secret not in repr(asdict(credential))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "chat_",
        "chat__",
        "sk-proj-abc",
        "chat_abc_" + "x" * 43,
        "chat_4ur70gq1k1pj_" + "x" * 42,
        "chat_4ur70gq1k1pj_" + "x" * 44,
        "chat_4UR70gq1k1pj_" + "x" * 43,
        "chat_4ur70gq1k1pj_" + "-" * 43,
        "chat_4ur70gq1k1pj_" + "x" * 43 + "\n",
        "Chat_4ur70gq1k1pj_" + "x" * 43,
        "chat_" * 10_000,
    ],
)
def test_what_cannot_be_a_key_has_no_id(text: str) -> None:
    assert id_of(text) is None


def test_only_the_whole_key_matches() -> None:
    text, credential = new_key("web")
    assert credential.matches(text, 0)
    assert not credential.matches(text[:-1], 0)
    assert not credential.matches(new_text(credential.id), 0)


def test_the_secret_before_works_until_its_grace_ends() -> None:
    old, credential = new_key("web")
    new = new_text(credential.id)
    rotated = replace(credential, digest=digest(new), previous=digest(old), previous_until=100)
    assert rotated.matches(new, 100)
    assert rotated.matches(old, 99)
    assert not rotated.matches(old, 100)


def test_secrets_are_compared_in_a_time_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The present one and the one before are compared both, whichever it is."""
    (old, credential), compared = new_key("web"), list[set[str]]()
    new = new_text(credential.id)
    rotated = replace(credential, digest=digest(new), previous=digest(old), previous_until=100)

    def compare_digest(one: str, two: str) -> bool:
        compared.append({one, two})
        return one == two

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    for text, matches in ((new, True), (old, True), (new_text(credential.id), False)):
        compared.clear()
        assert rotated.matches(text, 99) is matches
        assert compared == [{digest(text), digest(new)}, {digest(text), digest(old)}]


def test_a_key_is_active_until_it_expires_or_is_revoked() -> None:
    _, credential = new_key("web", expires=100)
    assert [credential.state(99), credential.state(100)] == ["active", "expired"]
    assert replace(credential, revoked=50).state(60) == "revoked"
    assert new_key("web")[1].state(1e12) == "active"


def test_keys_of_one_owner_are_one_principal_and_others_are_their_own() -> None:
    first, second = new_key("a", owner="team")[1], new_key("b", owner="team")[1]
    assert first.principal == second.principal == "owner.team"
    alone, twin = new_key("a")[1], new_key("a")[1]
    assert alone.principal != twin.principal
    # An owner who calls himself like another's key is still somebody else.
    assert new_key("c", owner=alone.id)[1].principal != alone.principal


def test_owners_with_odd_names_cannot_escape_into_other_keys() -> None:
    odd = new_key("a", owner="x}/s:{y")[1].principal
    assert re.fullmatch(r"owner\.h-[0-9a-f]{32}", odd)


def test_no_name_can_be_chosen_that_is_the_hash_of_another() -> None:
    victim = ids.principal_id("jwt", "auth0|6543")
    assert victim.startswith("jwt.h-")
    assert ids.principal_id("jwt", victim.removeprefix("jwt.")) != victim
    assert ids.principal_id("jwt", "h-alice") == "jwt.h-alice"
