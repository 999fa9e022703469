"""Requests that ask for another protocol are HTTP/1.1 requests like any other: RFC 9110 7.8.

Whoever sees another request in these bytes than the proxy in front can be made to answer what
nobody asked (request smuggling), so every way of cutting and framing them is tried.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from tests.support.needed import program
from tests.support.service import Served

BODY = b'{"user_query":"[[say=ok]]"}'
#: a body that would be a request of its own to whoever lost the first one's framing
INNER = b"DELETE /v1/sessions/mine HTTP/1.1\r\nhost: localhost\r\n\r\n"
END = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
UPGRADES = {
    "h2c": b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAAA\r\n",
    "websocket": b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n",
    "several": b"connection: keep-alive, Upgrade\r\nupgrade: TLS/1.0, h2c\r\nupgrade: other/2\r\n",
    "unnamed": b"connection: upgrade\r\nupgrade: anything\r\n",
}


def request(upgrade: bytes, body: bytes, chunked: bool, path: bytes = b"/chat") -> bytes:
    head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n%b" % (path, upgrade)
    if not chunked:
        return head + b"content-length: %d\r\n\r\n%b" % (len(body), body)
    pieces = [body[i : i + 9] for i in range(0, len(body), 9)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head + b"transfer-encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


async def answers(served: Served, *pieces: bytes) -> list[tuple[int, bytes]]:
    """Status and body of every response to these bytes, each piece in a packet of its own."""
    host, port = served.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(20):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)  # the server, in this loop, takes it before the next is written
        data = await reader.read()
    writer.close()
    return responses(data)


def responses(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines[1:])
        body = b""
        if headers.get(b"transfer-encoding") == b"chunked":
            while True:
                size, _, data = data.partition(b"\r\n")
                body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]
                if not int(size, 16):
                    break
        else:
            length = int(headers[b"content-length"])
            body, data = data[:length], data[length:]
        found.append((int(lines[0].split()[1]), body))
    return found


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES.keys())
async def test_an_upgrade_that_is_not_ours_is_ignored_and_the_body_is_read(
    served: Served, upgrade: bytes, chunked: bool
) -> None:
    found = await answers(served, request(upgrade, BODY, chunked), END)
    assert found == [(200, b"ok"), (200, b'{"status":"alive"}')]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES.keys())
async def test_a_body_that_looks_like_a_request_is_a_body(
    served: Served, upgrade: bytes, chunked: bool
) -> None:
    await served.client.post("/v1/sessions", json={"id": "mine"})
    found = await answers(served, request(upgrade, INNER, chunked), END)
    assert [status for status, _ in found] == [400, 200]
    assert json.loads(found[0][1])["code"] == "invalid_request"
    assert (await served.client.get("/v1/sessions/mine")).status_code == 200


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_it_may_be_cut_at_every_byte(served: Served, chunked: bool) -> None:
    whole = request(UPGRADES["h2c"], INNER, chunked, b"/v1/nothing")
    for at in range(1, len(whole)):
        found = await answers(served, whole[:at], whole[at:] + END)
        assert [status for status, _ in found] == [404, 200], at


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_it_may_come_byte_by_byte(served: Served, chunked: bool) -> None:
    whole = request(UPGRADES["websocket"], BODY, chunked) + END
    found = await answers(served, *(whole[at : at + 1] for at in range(len(whole))))
    assert found == [(200, b"ok"), (200, b'{"status":"alive"}')]


async def test_many_behind_one_another_are_each_answered_in_their_order(served: Served) -> None:
    names = list(UPGRADES) * 3
    whole = b"".join(
        request(UPGRADES[name], b'{"user_query":"[[say=%d]]"}' % number, bool(number % 2))
        for number, name in enumerate(names)
    )
    found = await answers(served, whole + END)
    assert found[:-1] == [(200, b"%d" % number) for number in range(len(names))]


async def test_one_without_a_body_is_answered_and_what_follows_is_the_next_request(served: Served) -> None:
    head = b"GET /v1/nothing HTTP/1.1\r\nhost: localhost\r\n%b\r\n" % UPGRADES["h2c"]
    assert [status for status, _ in await answers(served, head + END)] == [404, 200]
    assert [status for status, _ in await answers(served, head, END)] == [404, 200]


async def test_a_tunnel_is_refused_and_nothing_in_it_is_read(served: Served) -> None:
    found = await answers(served, b"CONNECT x:443 HTTP/1.1\r\nhost: localhost\r\n\r\n" + END)
    assert [status for status, _ in found] == [400]


@pytest.mark.parametrize(
    "framing",
    [
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n",
        b"content-length: 5\r\ncontent-length: 6\r\n",
        b"transfer-encoding: gzip\r\n",
        b"transfer-encoding: chunked, gzip\r\n",
    ],
)
async def test_a_body_without_a_clear_end_is_refused_and_the_connection_closed(
    served: Served, framing: bytes
) -> None:
    head = b"POST /v1/nothing HTTP/1.1\r\nhost: localhost\r\n%b%b\r\n" % (UPGRADES["h2c"], framing)
    found = await answers(served, head + b"0\r\n\r\n" + END)
    assert [status for status, _ in found] == [400]


async def test_the_target_may_name_its_host_there_too(served: Served) -> None:
    whole = request(UPGRADES["h2c"], BODY, False, b"http://localhost/chat")
    assert await answers(served, whole, END) == [(200, b"ok"), (200, b'{"status":"alive"}')]


async def test_a_trailer_is_no_header(served: Served) -> None:
    body = b"POST /v1/nothing HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n%b\r\n"
    found = await answers(served, body % (b"x-many: 1\r\n" * 200) + END)
    assert [status for status, _ in found] == [404, 200], "200 headers would be 431"


async def test_curl_that_offers_http2_is_served(served: Served, tmp_path: Path) -> None:
    curl = program("curl")
    (tmp_path / "body").write_bytes(BODY)
    line = ("--http2", "-s", "-m", "20", "-H", "content-type: application/json")
    said = await _run(curl, *line, "--data-binary", f"@{tmp_path}/body", f"{served.url}/chat")
    assert said == "ok"


async def _run(*command: str) -> str:
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=30, check=True
    )
    return str(done.stdout)
