"""Images in requests: data URLs decoded, their kind and size read off their first bytes.

The kind is what the bytes say, never what the URL or its sender says, and only kinds that models take are
taken. Pixels are not decoded. Invariant: no step of a large image keeps the event loop for more than some ms.
What a model takes is the catalogue's (upstream/models.py), where images are stored is store/images.py's.
"""

from __future__ import annotations

import asyncio
import binascii
import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from service.errors import ServiceError

Kind = Literal["png", "jpeg", "webp", "gif"]

# Base64 per step, a multiple of four characters: 2 ms to decode and as long to digest.
_STEP: Final = 1_048_576
# Segments of a JPEG before the one that has its size; cameras write a dozen.
_MOST_SEGMENTS: Final = 500
# Start of frame: C0 to CF, except tables (C4), extensions (C8) and arithmetic coding (CC).
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class Size:
    kind: Kind
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Image:
    """`ref` is the SHA-256 of its bytes, in hexadecimal digits."""

    ref: str
    size: Size
    data: bytes


def is_data_url(url: str) -> bool:
    return url[:5].lower() == "data:"


async def decoded(url: str, most_bytes: int, where: str) -> Image:
    """The image in a data URL. Raises invalid_request, image_too_large."""
    head, comma, text = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise _wrong(where, "has to be an https URL, or a data URL in base64")
    data, digest = bytearray(), hashlib.sha256()
    try:
        # Tools that write base64 break its lines, and some leave out its end: browsers take both.
        raw = text.encode("ascii").translate(None, b"\t\n\f\r ")
        raw += b"=" * (-len(raw) % 4)
        if len(raw) // 4 * 3 > most_bytes + 2:
            raise too_large(where, most_bytes)
        for start in range(0, len(raw), _STEP):
            piece = binascii.a2b_base64(raw[start : start + _STEP], strict_mode=True)
            digest.update(piece)
            data += piece
            if len(raw) > _STEP:
                await asyncio.sleep(0)  # others have their turn
    except (binascii.Error, UnicodeEncodeError):
        raise _wrong(where, "is not valid base64") from None
    if len(data) > most_bytes:
        raise too_large(where, most_bytes)
    size = size_of(data)
    if size is None:
        raise _wrong(where, "is not an image in PNG, JPEG, WebP or GIF")
    return Image(digest.hexdigest(), size, bytes(data))


def size_of(data: bytes | bytearray) -> Size | None:
    """Kind, width and height by the first bytes; None for anything that is not such an image."""
    for begins, read in _READERS:
        if data[: len(begins)] == begins:
            try:
                found = read(data)
            except (struct.error, IndexError):  # it ends before its size
                return None
            return found if found and found.width > 0 and found.height > 0 else None
    return None


def _png(data: bytes | bytearray) -> Size | None:
    length, name, width, height = struct.unpack_from(">I4sII", data, 8)
    return Size("png", width, height) if length == 13 and name == b"IHDR" else None


def _gif(data: bytes | bytearray) -> Size | None:
    width, height = struct.unpack_from("<HH", data, 6)
    return Size("gif", width, height) if data[3:6] in (b"87a", b"89a") else None


def _webp(data: bytes | bytearray) -> Size | None:
    chunk = bytes(data[12:16])
    if data[8:12] != b"WEBP":
        return None
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return Size("webp", width & 0x3FFF, height & 0x3FFF)
    if chunk == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return Size("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if chunk == b"VP8X" and len(data) >= 30:
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return Size("webp", width, height)
    return None


def _jpeg(data: bytes | bytearray) -> Size | None:
    at = 2
    for _ in range(_MOST_SEGMENTS):
        while data[at] == 0xFF and data[at + 1] == 0xFF:  # filling
            at += 1
        marker, kind, length = struct.unpack_from(">BBH", data, at)
        if marker != 0xFF or length < 2:
            return None
        if kind in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return Size("jpeg", width, height)
        at += 2 + length
    return None


_READERS: Final[tuple[tuple[bytes, Callable[[bytes | bytearray], Size | None]], ...]] = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"GIF8", _gif),
    (b"RIFF", _webp),
    (b"\xff\xd8\xff", _jpeg),
)


def too_large(where: str, most_bytes: int) -> ServiceError:
    sentence = f"{where}: the image has more than {most_bytes} bytes."
    return ServiceError("image_too_large", sentence, param=where)


def _wrong(where: str, what: str) -> ServiceError:
    return ServiceError("invalid_request", f"{where}: {what}.", param=where)
