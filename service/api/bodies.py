"""Request bodies and headers: bounded, strict JSON, checked before anything looks at them."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any, Final, Literal

import orjson
from fastapi import Request

from service import ids
from service.api.edge import BODY_SECONDS, edge_of
from service.api.request_state import request_state
from service.dialects.base import M, nests_deeper, validate
from service.engine.sends import OnBusy
from service.errors import ServiceError

# Deeper than any request of ours; tools have the deepest (JSON schemas in JSON schemas).
_MAX_DEPTH: Final = 64
# Objects and lists, and commas, in a body: so that no step from its bytes to a send keeps the event loop for
# 50 ms. A context of 5,000 messages with parts has 15,000 of the first; 350,000 empty lists took 400 ms.
_MAX_CONTAINERS: Final = 20_000
_MAX_VALUES: Final = 60_000
# A body of this size is read and parsed in 0.1 ms.
SMALL_BYTES: Final = 16_384
_STRUCTURE: Final = frozenset(b'"[{,')
_NO_STRUCTURE: Final = bytes(set(range(256)) - _STRUCTURE)
_BOM: Final = b"\xef\xbb\xbf"
_NUL: Final = b"\\u0000"
_MAX_KEY: Final = 255
# Digits of a cursor. No log has so many events: a longer number is beyond the last one.
_CURSOR_DIGITS: Final = 15
_BEYOND: Final = 10**_CURSOR_DIGITS
_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_POLICIES: Final[dict[str, OnBusy]] = {"reject": "reject", "interrupt": "interrupt", "queue": "queue"}


async def read_json(request: Request, *, images: bool = False) -> Any:
    """The body as JSON, None without one. `images`: it may be as large as a body with images.

    Raises unsupported_media_type, body_too_large, invalid_request, concurrency_limited, overloaded.
    """
    kind = request.headers.get("content-type", "").strip()
    if kind and not is_json(kind):
        raise ServiceError("unsupported_media_type", "Send the body as application/json.")
    if request.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise ServiceError("unsupported_media_type", "Send the body without Content-Encoding.")
    settings = edge_of(request).settings
    limit = max(settings.max_body_bytes, settings.max_image_body_bytes if images else 0)
    if length(request) > limit:
        raise _too_large(limit)
    caller = request_state(request).caller
    if caller and not 0 <= length(request) <= SMALL_BYTES:
        edge_of(request).refused_bodies.check(caller)
    body = await _received(request, limit)
    if body.startswith(_BOM):
        del body[: len(_BOM)]  # some libraries for .NET and PowerShell send one
    if not body.strip():
        return None
    if not kind and "origin" in request.headers:
        # A page of any origin may send a body without a type, and its browser does not ask us first.
        raise ServiceError("unsupported_media_type", "Send the body as application/json.")
    if len(body) <= SMALL_BYTES:
        _check_size(body)
        document = _parsed(body)
        _check_depth(document)
        return document
    # One large body is parsed at a time, and other tasks run between its steps. A step is bounded in time,
    # but 20 bodies side by side kept the event loop for 0.3 s.
    async with edge_of(request).body_bounds.working:
        _check_size(body)
        await asyncio.sleep(0)
        document = _parsed(body)
        await asyncio.sleep(0)
        _check_depth(document)
        await asyncio.sleep(0)
    return document


def _parsed(body: bytearray) -> Any:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ServiceError(
            "invalid_request", "The body is not valid JSON (in UTF-8, without lone surrogates)."
        ) from None
    # A NUL ends strings in too many programs. Behind an escaped backslash it is only the text `u0000`.
    if _NUL in body and _NUL in body.replace(b"\\\\", b""):
        raise ServiceError("invalid_request", "A string holds a NUL character.")
    return document


async def _received(request: Request, limit: int) -> bytearray:
    bounds, state = edge_of(request).body_bounds, request_state(request)
    body = bytearray()
    counted = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                bounds.add(state.principal, len(chunk))
                counted += len(chunk)
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise ServiceError(
            "invalid_request", f"The body did not arrive within {BODY_SECONDS:.0f} s."
        ) from None
    finally:
        bounds.give_back(state.principal, counted)
        state.body_bytes = counted
    return body


def note_refusal(request: Request) -> None:
    """The request was refused: count the bytes of its body that were read in vain."""
    state = request_state(request)
    if state.caller and state.body_bytes > SMALL_BYTES:
        edge_of(request).refused_bodies.add(state.caller, state.body_bytes)


def is_json(content_type: str) -> bool:
    """True for the media types of JSON, whatever their parameters."""
    kind = content_type.split(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def length(request: Request) -> int:
    """Bytes of the body by Content-Length, -1 without one (chunked)."""
    value = request.headers.get("content-length", "")
    return int(value[:16]) if value.isascii() and value.isdigit() else -1


def _too_large(limit: int) -> ServiceError:
    return ServiceError("body_too_large", f"The body has more than {limit} bytes.")


def _check_size(body: bytearray) -> None:
    """Checks the number of objects, lists and values before the body is parsed. Raises invalid_request."""
    if body.count(b"[") + body.count(b"{") <= _MAX_CONTAINERS and body.count(b",") <= _MAX_VALUES:
        return
    # They may stand in strings, where they do not count. So all other bytes are removed; then empty strings,
    # which leaves the remaining quotes in pairs; then what is between two quotes.
    structure = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NO_STRUCTURE)
    outside = b"".join(structure.replace(b'""', b"").split(b'"')[::2])
    if outside.count(b"[") + outside.count(b"{") > _MAX_CONTAINERS or outside.count(b",") > _MAX_VALUES:
        raise ServiceError(
            "invalid_request",
            f"The body holds more than {_MAX_CONTAINERS} objects and lists or {_MAX_VALUES} values.",
        )


def _check_depth(document: Any) -> None:
    """Raises invalid_request."""
    if nests_deeper(document, _MAX_DEPTH):
        raise ServiceError("invalid_request", f"The body is nested deeper than {_MAX_DEPTH} levels.")


async def read(request: Request, model: type[M], *, required: bool = True) -> M:
    """The body as its model. Raises what read_json raises, and invalid_request."""
    document = await read_json(request)
    return validate(model, {} if document is None and not required else document)


def idempotency_key(request: Request) -> str | None:
    """The `Idempotency-Key` header. Raises invalid_request."""
    return _key(request.headers.get("idempotency-key"))


def fallback_key(request: Request) -> str | None:
    """The key that a balancer has made, for sends that have none of their own. Raises invalid_request."""
    return _key(request.headers.get("x-fallback-idempotency-key"))


def _key(key: str | None) -> str | None:
    if key is None:
        return None
    with contextlib.suppress(UnicodeDecodeError):  # then it stays Latin-1
        key = key.encode("latin-1").decode()
    if not 1 <= len(key) <= _MAX_KEY or ids.has_control(key):
        raise ServiceError("invalid_request", f"An Idempotency-Key has 1 to {_MAX_KEY} printable characters.")
    return key


def on_busy(request: Request) -> OnBusy | None:
    """The `X-On-Busy` header. Raises invalid_request."""
    value = request.headers.get("x-on-busy")
    if value is None or value in _POLICIES:
        return _POLICIES[value] if value else None
    raise ServiceError("invalid_request", "X-On-Busy is one of reject, interrupt, queue.")


def cursor(request: Request) -> int | None:
    """The cursor: `Last-Event-ID`, else `?after=`, else None. Raises bad_cursor."""
    value = request.headers.get("last-event-id")
    if value is None or value == "":
        value = request.query_params.get("after")
    if value is None:
        return None
    return place_in_log(value, "The cursor has to be the id of an event: an integer from 0.")


def place_in_log(value: str, sentence: str, param: str | None = None) -> int:
    """The id or number of an event from a text. Raises bad_cursor with the sentence."""
    if not (value.isascii() and value.isdigit()):
        raise ServiceError("bad_cursor", sentence, param=param)
    digits = value.lstrip("0")
    return int(digits or "0") if len(digits) <= _CURSOR_DIGITS else _BEYOND


def limit(request: Request, default: int, top: int, name: str = "limit") -> int:
    """`?limit=`, or another parameter: a number from 1 to `top`. Raises invalid_request."""
    value = request.query_params.get(name)
    if value is None:
        return default
    number = int(value) if _NUMBER.fullmatch(value) else 0
    if not 1 <= number <= top:
        raise ServiceError("invalid_request", f"{name} is an integer from 1 to {top}.", param=name)
    return number


def flag(request: Request, name: str) -> bool:
    """Is `?name=1` given? Raises invalid_request for other values than 0 and 1."""
    value = request.query_params.get(name)
    if value not in (None, "0", "1"):
        raise ServiceError("invalid_request", f"{name} is 0 or 1.", param=name)
    return value == "1"


def newest_first(request: Request, default: Literal["asc", "desc"]) -> bool:
    """Is `?order=` desc? Raises invalid_request."""
    order = request.query_params.get("order") or default
    if order not in ("asc", "desc"):
        raise ServiceError("invalid_request", "order is asc or desc.", param="order")
    return order == "desc"


def place(value: str | None) -> int | None:
    """The cursor of a list, None at its start. Raises invalid_request."""
    if not value:
        return None
    if not _NUMBER.fullmatch(value):
        raise ServiceError("invalid_request", "The cursor is not one that this list gave.")
    return int(value)
