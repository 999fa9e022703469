"""Small images for tests: real heads of each kind, with as many bytes behind them as a test wants."""

from __future__ import annotations

import base64
import struct
import zlib


def png(width: int = 1, height: int = 1, extra: int = 0) -> bytes:
    """A whole picture, which browsers show; `extra` bytes in a chunk that they pass over."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = zlib.compress((b"\0" + b"\xc0\x20\x20" * width) * height)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    more = chunk(b"teSt", bytes(extra)) if extra else b""
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x00\x00\x00;"


def jpeg(width: int, height: int) -> bytes:
    frame = b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", height, width) + b"\x03" + bytes(9)
    return b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(10) + b"\xff\xff\xdb\x00\x04ab" + frame + b"\xff\xd9"


def webp(kind: str, width: int, height: int) -> bytes:
    body = {
        "VP8 ": b"abc\x9d\x01\x2a" + struct.pack("<HH", width | 0x4000, height),
        "VP8L": b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14),
        "VP8X": bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"),
    }[kind]
    return b"RIFF\x00\x00\x00\x00WEBP" + kind.encode() + struct.pack("<I", len(body)) + body


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
