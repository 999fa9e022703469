"""What a server gives an ASGI application of a request, for tests that call a part of the edge by itself."""

from __future__ import annotations

from typing import Any


def scope(
    path: str = "/v1/sessions", method: str = "GET", peer: str = "10.0.0.1", **headers: str
) -> dict[str, Any]:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "scheme": "http",
        "query_string": b"",
        "client": (peer, 1),
        "headers": named,
    }
