"""Ids: what is made sorts by time, what clients choose is checked, and nobody's meets another's."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from service import ids
from service.errors import ServiceError

LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"


@pytest.mark.parametrize(
    ("make", "begin"),
    [
        (ids.new_session_id, "s_"),
        (ids.new_turn_id, "t_"),
        (ids.new_message_id, "m_"),
        (ids.new_call_id, "call_"),
        (ids.new_request_id, "r_"),
    ],
)
def test_what_is_made_has_its_kind_and_sorts_by_its_time(
    make: Callable[[], str], begin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for moment in (1, 1_700_000_000_000, 1_700_000_000_001, 2**48 - 1):
        monkeypatch.setattr(time, "time_ns", lambda moment=moment: moment * 1_000_000)
        made += [make(), make()]
    assert len(set(made)) == 8
    assert all(first < second for first, second in pairwise(made[::2]))
    assert all(re.fullmatch(rf"{begin}[{LETTERS}]{{26}}", one) for one in made)
    assert made[2].removeprefix(begin)[:10] == made[3].removeprefix(begin)[:10] == "01hf7yat00"


def test_a_claim_is_a_nonce_of_48_bits() -> None:
    made = {ids.new_claim() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch("[0-9a-f]{12}", one) for one in made)


def test_repeats_under_a_key_meet_and_nobody_elses() -> None:
    digest = hashlib.sha256(b"key.a\nonce").hexdigest()
    assert ids.derived_session_id("key.a", "once") == f"s_k{digest[:40]}"
    assert ids.conversation_id("key.a", "once") == f"conv_k{digest[:40]}"
    assert re.fullmatch(rf"conv_[{LETTERS}]{{26}}", ids.conversation_id("key.a", None))
    assert ids.derived_session_id("key.b", "once") != ids.derived_session_id("key.a", "once")
    assert ids.derived_session_id("key.a", "twice") != ids.derived_session_id("key.a", "once")


def test_an_answer_is_named_after_the_turn_that_began_it() -> None:
    assert ids.answer_id("t_1") == "m_1"
    assert ids.answer_id("other") == "m_other"
    assert ids.turn_id_of("m_1") == "t_1"
    assert ids.turn_id_of("other") == "other"


@pytest.mark.parametrize("value", ["a", "...", "A.z_0:-9", "x" * 128])
def test_a_session_id_may_be(value: str) -> None:
    assert ids.is_session_id(value)
    assert ids.check_session_id(value) == value


@pytest.mark.parametrize("value", ["", ".", "..", "x" * 129, "a b", "a/b", "a\n", "\u00e4", "a{b}"])
def test_a_session_id_may_not_be(value: str) -> None:
    assert not ids.is_session_id(value)
    with pytest.raises(ServiceError) as refused:
        ids.check_session_id(value)
    assert (refused.value.code, refused.value.message) == (
        "invalid_request",
        "A session id has 1 to 128 characters out of letters, digits and _ . : - .",
    )


def test_a_request_id_of_a_client_is_taken_where_a_log_line_can_hold_it() -> None:
    taken = ["a", "A.z_0-9", "x" * 128]
    assert [ids.is_request_id(value) for value in taken] == [True] * 3
    assert not any(map(ids.is_request_id, ["", "x" * 129, "a:b", "a b", "a\n", "\u00e4"]))


def test_control_characters_are_c0_c1_and_del() -> None:
    found = [code for code in range(0x400) if ids.has_control(f"a{chr(code)}b")]
    assert found == [*range(32), *range(127, 160)]


@pytest.mark.parametrize("name", ["a", "ann@example.com", "x" * 64, "h-short"])
def test_a_plain_name_is_shown_in_its_principal(name: str) -> None:
    assert ids.principal_id("owner", name) == f"owner.{name}"


@pytest.mark.parametrize("name", ["x" * 65, "a b", "a/b", "\u00e4", "h-" + "0" * 32, ""])
def test_any_other_is_hashed_and_can_be_nobody_elses(name: str) -> None:
    assert ids.principal_id("jwt", name) == f"jwt.h-{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def test_a_principal_that_is_named_is_one_that_there_can_be() -> None:
    for value in (
        "key.k7f3q9",
        "jwt.h-" + "0" * 32,
        "none.anonymous",
        "owner.ann@x",
        "a" * 16 + "." + "x" * 64,
    ):
        assert ids.check_principal_id(value) == value
    for value in (
        "",
        "key",
        "key.",
        ".a",
        "Key.a",
        "a" * 17 + ".x",
        "key." + "x" * 65,
        "key.*",
        "key.a\n",
        "k.[a]",
    ):
        with pytest.raises(ServiceError) as refused:
            ids.check_principal_id(value)
        assert (refused.value.code, refused.value.message) == (
            "invalid_request",
            "principal is one that GET /v1/usage/principals lists.",
        )
