"""Attackers that have no key, or use none: connections, heads, bodies, other ways to speak HTTP."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.attack.attack import Attack, attacker
from tests.attack.connection import Answer, Cut, request

_MIB: Final = 1_048_576
_EVIL: Final = "https://evil.example"


@attacker("135 connections that send all but the last byte of a body of 1 or 2 MiB")
async def last_byte(attack: Attack) -> None:
    bodies = [b'{"user_query": "' + b"x" * (size - 18) + b'"}' for size in (_MIB, 2 * _MIB)]

    async def again(number: int) -> None:
        data = request("POST", "/chat", body=bodies[number % 2])[:-1]
        while attack.left > 0:
            await attack.hold(data, connections=1)
            await attack.pause(0.2)  # between a refusal and the next try

    await asyncio.gather(*(again(number) for number in range(135)))


@attacker(
    "60 heads and bodies that begin and then come a byte a second, at nginx and at the service", patient=True
)
async def drips(attack: Attack) -> None:
    body = request("POST", "/chat", body=b'{"user_query": "' + b"x" * 10_000)
    head = b"GET /livez HTTP/1.1\r\nHost: chat.example\r\nX-Drip: "
    ports = (0, *attack.context.services)
    each = 60 // len(ports) // 2
    whole = [(port, data) for port in ports for data in (body[:-9_000], head)]
    ended = await asyncio.gather(
        *(attack.hold(data, connections=each, port=port, drip=b"x") for port, data in whole)
    )
    # A body that nginx keeps for a repeat has no bound in time: the first of these is bound in number only.
    still_open = sum(each - number for number in ended[1:])
    if attack.context.seconds > 60:
        attack.tally.check(not still_open, f"{still_open} are open after a minute")


@attacker("2,000 connections that say nothing, opened again when they are closed")
async def silent_connections(attack: Attack) -> None:
    async def again(number: int) -> None:
        await attack.pause(number / 500)
        while attack.left > 0:
            await attack.hold(b"", connections=1)
            await attack.pause(0.5)

    await asyncio.gather(*(again(number) for number in range(2_000)))


@attacker("heads of 60 KiB, of 100 KiB, and of 1,000 fields")
async def giant_heads(attack: Attack) -> None:
    heads = (
        request("GET", "/v1/sessions", headers={"X-Large": "x" * 60_000}),
        request("GET", "/v1/sessions", headers={f"X-{number}": "x" * 7_000 for number in range(14)}),
        request("GET", "/v1/sessions", headers={f"X-{number}": "x" for number in range(1_000)}),
        request("GET", f"/v1/sessions/{'x' * 60_000}"),
    )
    await attack.flood(lambda number: heads[number % len(heads)], ports=attack.everywhere)


@attacker("500 requests in one write, on 10 connections, again and again")
async def pipelines(attack: Attack) -> None:
    one = request("GET", "/v1/models")

    async def again(port: int) -> None:
        while attack.left > 0:
            try:
                async with attack.connection(port) as line:
                    sending = asyncio.create_task(line.send(one * 500))
                    try:
                        while attack.left > 0 and await attack.exchange(line, b""):
                            pass
                    finally:
                        sending.cancel()
            except OSError:
                attack.tally.take(None)
            await attack.pause(0.5)

    ports = attack.everywhere
    await asyncio.gather(*(again(ports[number % len(ports)]) for number in range(10)))


@attacker("odd methods, versions, ranges, and bodies with two lengths")
async def odd_requests(attack: Attack) -> None:
    body = b'{"user_query": "x"}'
    requests = [
        *(request(method, "/v1/sessions") for method in ("TRACE", "PROPFIND", "PUT", "HEAD", "OPTIONS", "Q")),
        request("CONNECT", "chat.example:443"),
        request("GET", "http://evil.example/v1/sessions"),
        request("GET", "/../../etc/passwd"),
        request("GET", "/client/resumable-fetch.js", headers={"Range": "bytes=0-0," * 500 + "0-1"}),
        request("GET", "/v1/models?" + "a=b&" * 1_500),
        request("POST", "/chat", body=body, headers={"Transfer-Encoding": "chunked"}),
        request("POST", "/chat", body=body, headers={"Content-Length": f"{len(body)}\r\nContent-Length: 5"}),
        request("POST", "/chat", body=body, headers={"Content-Length": "-1"}),
        request("POST", "/chat", body=body, headers={"Content-Length": "99999999999999999999"}),
        request("POST", "/chat", body=body, headers={"Expect": "100-continue"}),
        request("GET", "/v1/models").replace(b"HTTP/1.1", b"HTTP/1.0"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 \r\n\r\n",  # TLS to a port that speaks none
        b"GET /v1/models\r\n\r\n",
    ]

    def look(number: int, answer: Answer) -> None:
        attack.tally.check(answer.status != 500, f"500 for {requests[number % len(requests)][:60]!r}")

    await attack.flood(lambda number: requests[number % len(requests)], ports=attack.everywhere, look=look)


@attacker("posts with `Upgrade: h2c`, one body of which looks like a second request")
async def h2c(attack: Attack) -> None:
    key = await attack.key("h2c")
    fields = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQ"}
    second = request("DELETE", "/v1/sessions/h2c", key=key)
    named = request("POST", "/v1/sessions", key=key, body={"id": "h2c"}, headers=fields)
    smuggled = request("POST", "/v1/sessions", key=key, body=second, headers=fields)
    ports = attack.everywhere
    number = 0
    while attack.left > 0:
        number += 1
        async with attack.connection(ports[number % len(ports)]) as line:
            answer = await attack.exchange(line, named)
            attack.tally.check(
                answer is None or answer.status in (200, 201, 429), f"its body was lost: {answer}"
            )
        async with attack.connection(ports[number % len(ports)]) as line:
            answer = await attack.exchange(line, smuggled)
            attack.tally.check(answer is None or answer.status in (400, 429), f"taken for JSON: {answer}")
            if answer is not None and line.usable:
                answer = await attack.exchange(line, request("GET", "/livez"))
                attack.tally.check(
                    answer is None or answer.json().get("status") == "alive", f"a second answer: {answer}"
                )
        await attack.pause(0.05)


@attacker("pages of a foreign origin and a foreign Host, with and without asking for leave")
async def foreign_pages(attack: Attack) -> None:
    fields = {"Host": "evil.example", "Origin": _EVIL}
    leave = {**fields, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    requests = (
        request("GET", "/v1/sessions", headers=fields),
        request(
            "POST", "/chat", body=b'{"user_query": "x"}', headers={**fields, "Content-Type": "text/plain"}
        ),
        request("OPTIONS", "/chat", headers=leave),
        request("POST", "/api/chat/x/stop", headers=fields),
        request("GET", "/health", headers=fields),
    )

    def look(_: int, answer: Answer) -> None:
        leave_given = answer.headers.get("access-control-allow-origin", "")
        attack.tally.check(leave_given not in ("*", _EVIL), f"leave for {leave_given}")

    await attack.flood(lambda number: requests[number % len(requests)], look=look)


@attacker("made-up keys, each another one, and other credentials that are none")
async def made_up_keys(attack: Attack) -> None:
    def make(number: int) -> bytes:
        if number % 3:
            return request("GET", "/v1/sessions", key=f"chat_{number:016x}_{'A' * 43}")
        return request("GET", "/v1/sessions", headers={"X-API-Key": "x" * 4_000})

    def look(_: int, answer: Answer) -> None:
        attack.tally.check(answer.status in (401, 429, 503), f"status {answer.status}")

    await attack.flood(make, connections=20, look=look)


@attacker("300 connections that ask for the largest answers there are without a key, and read none of them")
async def unread_answers(attack: Attack) -> None:
    pages = ("/openapi.json", "/ui", "/client/resumable-fetch.js", "/docs")
    ports = attack.everywhere

    async def again(number: int) -> None:
        await attack.pause(number / 50)
        while attack.left > 0:
            attack.tally.made += 1
            try:
                async with attack.connection(ports[number % len(ports)]) as line:
                    line.stop_reading()
                    await line.send(request("GET", pages[number % len(pages)]) * 4)
                    async with asyncio.timeout_at(attack.deadline):
                        while True:  # until it is closed: a byte tells
                            await asyncio.sleep(5)  # the pace at which it is tried
                            await line.send(b"G")
            except TimeoutError:
                attack.tally.answers["open at the end"] += 1
            except OSError:
                attack.tally.take(None)
            await attack.pause(0.2)

    await asyncio.gather(*(again(number) for number in range(300)))


@attacker("trailers without an end behind whole bodies, on 60 connections, without a key")
async def endless_trailers(attack: Attack) -> None:
    head = request("POST", "/chat", body=b"", headers={"Transfer-Encoding": "chunked"}).replace(
        b"Content-Length: 0\r\n", b""
    )
    body = b"13\r\n" + b'{"user_query": "x"}' + b"\r\n0\r\n"
    trailers = b"".join(b"X-Trailer-%d: %b\r\n" % (number, b"t" * 1_000) for number in range(16))
    ports = attack.everywhere

    async def again(number: int) -> None:
        while attack.left > 0:
            attack.tally.made += 1
            try:
                async with attack.connection(ports[number % len(ports)]) as line:
                    await line.send(head + body)
                    async with asyncio.timeout_at(attack.deadline):
                        sent = 0
                        while line.usable:
                            await line.send(trailers)
                            sent += len(trailers)
                            await asyncio.sleep(0.01)  # the pace of the attack
                            attack.tally.check(sent < 64 * _MIB, "64 MiB of trailers were taken")
                        attack.tally.take(await line.answer())
            except TimeoutError:
                attack.tally.answers["open at the end"] += 1
            except (Cut, OSError):
                attack.tally.take(None)
            await attack.pause(0.2)

    await asyncio.gather(*(again(number) for number in range(60)))
