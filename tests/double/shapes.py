"""The same stream as a proxy, or another server that speaks the API, may send it.

Each shape changes bytes of events that are whole, and nothing of what they say for certain.
  crlf cr (line ends) bom (before the first byte) data_lines (each event's JSON in two `data:` lines)
  nulls (chunks whose delta, choices or usage is null) partial_usage (the prompt's tokens only)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_ENDS: Final = re.compile(rb'"(?:completion|total)_tokens":\d+,')
_NULLS: Final = (
    b'data: {"choices":null,"usage":null}\n\n'
    b'data: {"choices":[{"index":0,"delta":null,"finish_reason":null}],"x_groq":null}\n\n'
)


def _after_role(data: bytes) -> bytes:
    return data + _NULLS if b'"role":"assistant"' in data else data


SHAPES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "crlf": lambda data: data.replace(b"\n", b"\r\n"),
    "cr": lambda data: data.replace(b"\n", b"\r"),
    "bom": lambda data: b"\xef\xbb\xbf" + data if b'"role":"assistant"' in data else data,
    "data_lines": lambda data: data.replace(b',"object":', b',\ndata: "object":'),
    "nulls": _after_role,
    "partial_usage": lambda data: _ENDS.sub(b"", data),
}


def plain(data: bytes) -> bytes:
    return data
