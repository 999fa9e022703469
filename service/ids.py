"""Identifiers: made here time-sortable, checked here when clients choose them."""

from __future__ import annotations

import hashlib
import os
import re
import time
from typing import Final

from service.errors import ServiceError

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32, sorts like its value
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]  # of ten bits each
_SESSION_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}\Z")
_PRINCIPAL: Final = re.compile(r"[a-z]{1,16}\.[A-Za-z0-9_.@-]{1,64}\Z")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")


def _sortable() -> str:
    """26 characters: 48 bits of milliseconds, then 80 random bits (the layout of a ULID)."""
    value = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -10, -10)])


def new_session_id() -> str:
    return f"s_{_sortable()}"


def new_turn_id() -> str:
    return f"t_{_sortable()}"


def new_message_id() -> str:
    return f"m_{_sortable()}"


def new_call_id() -> str:
    """For a tool call that the provider has given no id."""
    return f"call_{_sortable()}"


def new_claim() -> str:
    """A nonce of 48 bits: tells two claims of one turn apart that a failover gave the same epoch."""
    return os.urandom(6).hex()


def new_request_id() -> str:
    return f"r_{_sortable()}"


def derived_session_id(principal: str, key: str) -> str:
    """The session of a send that names none but has an idempotency key: repeats meet there."""
    return "s_k" + hashlib.sha256(f"{principal}\n{key}".encode()).hexdigest()[:40]


def conversation_id(principal: str, key: str | None) -> str:
    """A session id that begins as OpenAI's clients expect; with an idempotency key repeats get the same."""
    session_id = derived_session_id(principal, key) if key else new_session_id()
    return f"conv{session_id[1:]}"


def answer_id(turn_id: str) -> str:
    """The id of the assistant message that a turn makes; equal to `start.messageId`."""
    return f"m{turn_id[1:]}" if turn_id.startswith("t_") else f"m_{turn_id}"


def turn_id_of(answer_id: str) -> str:
    """The turn that has begun an answer."""
    return f"t{answer_id[1:]}" if answer_id.startswith("m_") else answer_id


def is_session_id(value: str) -> bool:
    return bool(_SESSION_ID.match(value)) and value not in (".", "..")


def check_session_id(value: str) -> str:
    if not is_session_id(value):
        raise ServiceError(
            "invalid_request",
            "A session id has 1 to 128 characters out of letters, digits and _ . : - .",
        )
    return value


def is_request_id(value: str) -> bool:
    return bool(_REQUEST_ID.match(value))


def has_control(value: str) -> bool:
    """True for C0 and C1 control characters and DEL, which no id or header may hold."""
    return any(ord(character) < 32 or 127 <= ord(character) < 160 for character in value)


def principal_id(kind: str, name: str) -> str:
    """`<kind>.<name>`, hashed where the name has characters that a key must not hold, or looks hashed."""
    if re.fullmatch(r"(?!h-[0-9a-f]{32}$)[A-Za-z0-9_.@-]{1,64}", name):
        return f"{kind}.{name}"
    return f"{kind}.h-{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def is_principal_id(value: str) -> bool:
    """Could `principal_id` have made it? Other texts could be patterns of keys."""
    return bool(_PRINCIPAL.match(value))


def check_principal_id(value: str) -> str:
    if not is_principal_id(value):
        raise ServiceError("invalid_request", "principal is one that GET /v1/usage/principals lists.")
    return value
