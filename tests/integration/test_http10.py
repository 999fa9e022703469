"""HTTP/1.0, which nginx speaks to its upstreams unless told otherwise: no chunks, the end is the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from tests.double import expected_text
from tests.support.dialects import DIALECTS, Dialect
from tests.support.service import Served

ALL = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)


async def ask(
    served: Served, method: str, path: str, body: dict[str, Any] | None = None, version: str = "1.0"
) -> tuple[bytes, bytes, bool]:
    """Head and body as they come, and whether the connection was reset."""
    content = json.dumps(body).encode() if body is not None else b""
    head = (
        f"{method} {path} HTTP/{version}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
    writer.write(f"{head}\r\n\r\n".encode() + content)
    came, reset = b"", False
    try:
        while piece := await asyncio.wait_for(reader.read(65_536), 20):
            came += piece
    except ConnectionResetError:
        reset = True
    writer.close()
    with contextlib.suppress(ConnectionResetError):
        await writer.wait_closed()
    top, _, rest = came.partition(b"\r\n\r\n")
    return top.lower(), rest, reset


@ALL
async def test_an_answer_has_no_chunks_and_ends_with_its_connection(served: Served, dialect: Dialect) -> None:
    body = dialect.body("[[tokens=60 rate=100]]", "s")
    head, content, reset = await ask(served, "POST", dialect.url("s"), body)
    assert head.startswith(b"http/1.1 200 ")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    end = "" if dialect.name == "text" else "completed"
    assert (dialect.read(content.decode()), reset) == ((expected_text(60), end), False)


async def test_a_text_that_breaks_off_does_not_end_cleanly(served: Served) -> None:
    body = {"user_query": "[[tokens=60 fault=cut after=30 rate=200]]"}
    _, content, reset = await ask(served, "POST", "/chat", body)
    assert reset
    assert expected_text(30).startswith(content.decode())


async def test_a_body_of_a_known_length_is_as_ever(served: Served) -> None:
    for method in ("GET", "HEAD"):
        head, content, reset = await ask(served, method, "/livez")
        assert (b"content-length: 18" in head, reset) == (True, False)
        assert content == (b'{"status":"alive"}' if method == "GET" else b"")
    head, content, reset = await ask(served, "GET", "/v1/sessions/none")
    assert head.startswith(b"http/1.1 404 ")
    assert json.loads(content)["code"] == "session_not_found"
    assert not reset


async def test_a_list_that_is_made_page_by_page_has_none_either(served: Served) -> None:
    await served.client.post("/chat", json={"user_query": "[[say=Hi]]", "session_id": "s"})
    head, content, reset = await ask(served, "GET", "/v1/sessions/s/export")
    assert b"transfer-encoding" not in head
    assert [one["role"] for one in json.loads(content)["messages"]] == ["user", "assistant"]
    assert not reset
