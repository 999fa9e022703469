"""Attackers whose single request is dear: long lists, large answers, bodies and streams that are left."""

from __future__ import annotations

import asyncio
import gzip
from typing import Final

from tests.attack.attack import Attack, attacker
from tests.attack.connection import Answer, Connection, Cut, request

_PLENTY: Final = "1000000/minute"


@attacker("20 connections of `/chat-with-history` with 10,000 messages of one letter")
async def many_messages(attack: Attack) -> None:
    key = await attack.key("many-messages")
    history = [{"role": ("user", "assistant")[place % 2], "content": "x"} for place in range(10_000)]
    body = {"user_query": "[[tokens=5 rate=0]]", "history": history}
    await attack.flood(lambda _: request("POST", "/chat-with-history", key=key, body=body), connections=20)


@attacker("`/api/chat` and `/v1/chat/completions` with as many messages and parts as a body holds")
async def many_parts(attack: Attack) -> None:
    key = await attack.key("many-parts")
    part = {"type": "text", "text": "x"}
    pages = [
        {"id": f"m{place}", "role": ("user", "assistant")[place % 2], "parts": [part]}
        for place in range(9_999)
    ]
    one = {"id": "m", "role": "user", "parts": [part] * 30_000}
    items = [{"role": ("user", "assistant")[place % 2], "content": "x"} for place in range(9_999)]
    requests = (
        request("POST", "/api/chat", key=key, body={"id": "parts", "messages": pages}),
        request("POST", "/api/chat", key=key, body={"id": "parts", "messages": [one]}),
        request("POST", "/v1/chat/completions", key=key, body={"messages": items}),
        request(
            "POST",
            "/v1/chat/completions",
            key=key,
            body={"messages": [{"role": "user", "content": [part] * 30_000}]},
        ),
    )
    await attack.flood(lambda number: requests[number % 4], connections=20, per_second=50)


@attacker("bodies of 1 MiB that are no message: nested, wide, compressed, not UTF-8")
async def bad_bodies(attack: Attack) -> None:
    key = await attack.key("bad-bodies")
    bodies = (
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b"{" + b",".join(b'"%d":1' % place for place in range(90_000)) + b"}",
        b'{"user_query": "' + b"\\u0000" * 170_000 + b'"}',
        b'{"user_query": "' + b"\xff" * 1_000_000 + b'"}',
        b'{"user_query": 1' + b"0" * 1_000_000 + b"}",
    )
    packed = gzip.compress(b'{"user_query": "' + b"x" * 50_000_000 + b'"}')
    requests = [request("POST", "/chat", key=key, body=body) for body in bodies]
    requests.append(request("POST", "/chat", key=key, body=packed, headers={"Content-Encoding": "gzip"}))
    await attack.flood(lambda number: requests[number % len(requests)], per_second=50)


@attacker("thousands of sessions that nobody has named, and then the list of sessions, 20 times a second")
async def huge_index(attack: Attack) -> None:
    key = await attack.key("huge-index", limit_sends=_PLENTY)
    body = {"user_query": "[[tokens=1 rate=0]]"}
    share = attack.context.seconds * 0.6  # of the time for making them
    deadline = attack.deadline
    attack.deadline -= attack.context.seconds - share
    await attack.flood(lambda _: request("POST", "/chat", key=key, body=body), connections=16)
    attack.deadline = deadline
    await attack.flood(lambda _: request("GET", "/v1/sessions?limit=200", key=key), per_second=20)


@attacker("exports and histories of its own largest session, as often as it may")
async def exports(attack: Attack) -> None:
    key = await attack.key("exports")
    await _fill(attack, key, "large")
    for _ in range(4):
        turn = {"content": "[[tokens=20000 rate=0]]"}
        await attack.ask(request("POST", "/v1/sessions/large/turns", key=key, body=turn))
    paths = (
        "/v1/sessions/large/export",
        "/v1/sessions/large/messages?limit=1000",
        "/api/chat/large/messages",
    )
    await attack.flood(lambda number: request("GET", paths[number % 3], key=key), per_second=60)


@attacker("answers that interrupt each other, and regenerations in its own largest session")
async def interrupts(attack: Attack) -> None:
    key = await attack.key("interrupts", limit_sends=_PLENTY)
    await _fill(attack, key, "interrupted")
    headers = {"Prefer": "respond-async", "X-On-Busy": "interrupt"}
    bodies = ({"content": "[[tokens=500 rate=50]]"}, {"regenerate": True}, {"content": "[[fault=hang]]"})
    await attack.flood(
        lambda number: request(
            "POST", "/v1/sessions/interrupted/turns", key=key, body=bodies[number % 3], headers=headers
        ),
        per_second=20,
    )


async def _fill(attack: Attack, key: str, session: str) -> None:
    """A session with a history of 900 kB."""
    item = {"role": "user", "content": "h" * 90_000}
    body = {
        "session_id": session,
        "user_query": "[[tokens=5 rate=0]]",
        "history": [item, {**item, "role": "assistant"}] * 5,
    }
    await attack.ask(request("POST", "/chat-with-history", key=key, body=body))


@attacker("long answers at full speed into 90 streams that are never read")
async def never_reads(attack: Attack) -> None:
    key = await attack.key("never-reads", limit_sends=_PLENTY)

    async def one(number: int) -> None:
        while attack.left > 0:
            attack.tally.made += 1
            body = {"content": "[[tokens=20000 rate=0]]"}
            data = request("POST", f"/v1/sessions/slow-{number}/turns", key=key, body=body)
            try:
                async with asyncio.timeout_at(attack.deadline), attack.connection() as line:
                    await line.send(data)
                    status, _ = await line.head()
                    attack.tally.answers[f"{status}"] += 1
                    attack.tally.refused += status >= 400
                    if status < 400:
                        await attack.pause(10)  # the answer goes on; nothing is read
            except TimeoutError:
                return
            except (Cut, OSError):
                attack.tally.take(None)
            await attack.pause(0.5)

    await asyncio.gather(*(one(number) for number in range(90)))


@attacker("streams opened and left at once: answers, replays, events of the newest turn")
async def left_streams(attack: Attack) -> None:
    key = await attack.key("left-streams")
    body = {"content": "[[tokens=2000 rate=50]]"}
    begun = await attack.ask(
        request("POST", "/v1/sessions/left/turns", key=key, body=body, headers={"Prefer": "respond-async"})
    )
    assert begun is not None
    requests = (
        request("GET", f"{begun.headers['location']}/events", key=key),
        request("GET", "/api/chat/left/stream", key=key),
        request("POST", "/chat", key=key, body={"user_query": "[[tokens=2000 rate=50]]"}),
    )

    async def one(number: int) -> None:
        while attack.left > 0:
            attack.tally.made += 1
            try:
                async with asyncio.timeout_at(attack.deadline), attack.connection() as line:
                    await line.send(requests[number % 3])
                    status, _ = await line.head()
                    attack.tally.answers[f"{status}"] += 1
                    attack.tally.refused += status >= 400
            except TimeoutError:
                return
            except (Cut, OSError):
                attack.tally.take(None)
            await attack.pause(0.05)

    await asyncio.gather(*(one(number) for number in range(12)))


@attacker("hangs up in the middle of a body, at nginx and at the service")
async def hang_ups(attack: Attack) -> None:
    key = await attack.key("hang-ups")
    data = request("POST", "/v1/sessions/x/turns", key=key, body=b'{"content": "' + b"x" * 100_000 + b'"}')
    ports = attack.everywhere

    async def one(number: int) -> None:
        while attack.left > 0:
            attack.tally.made += 1
            try:
                async with attack.connection(ports[number % len(ports)]) as line:
                    await line.send(data[: len(data) // 2])
                    await attack.pause(0.05)
            except OSError:
                attack.tally.take(None)

    await asyncio.gather(*(one(number) for number in range(9)))


@attacker("bodies in chunks of one byte, 100 connections at once")
async def tiny_chunks(attack: Attack) -> None:
    key = await attack.key("tiny-chunks")
    fields = {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
    head = request("POST", "/chat", key=key, headers=fields)
    chunks = b"1\r\nx\r\n" * 1_000

    async def again(port: int) -> None:
        while attack.left > 0:
            attack.tally.made += 1
            try:
                async with asyncio.timeout_at(attack.deadline), attack.connection(port) as line:
                    answering = asyncio.create_task(_answer_of(line))
                    try:
                        await line.send(head)
                        for _ in range(100):
                            if answering.done():
                                break
                            await line.send(chunks)
                            await attack.pause(0.05)
                        await line.send(b"0\r\n\r\n")
                        attack.tally.take(await answering)
                    finally:
                        answering.cancel()
            except TimeoutError:
                attack.tally.answers["open at the end"] += 1
            except OSError:
                attack.tally.take(None)
            await attack.pause(0.5)

    ports = attack.everywhere
    await asyncio.gather(*(again(ports[number % len(ports)]) for number in range(100)))


async def _answer_of(line: Connection) -> Answer | None:
    try:
        return await line.answer()
    except Cut:
        return None


@attacker("1,000 open streams of one key, of the events of a running answer and of its session")
async def many_streams(attack: Attack) -> None:
    key = await attack.key("many-streams", limit_sends=_PLENTY, limit_reads=_PLENTY)
    begun = await attack.ask(
        request(
            "POST",
            "/v1/sessions/many-streams/turns",
            key=key,
            body={"content": "[[tokens=400 rate=2]] many streams"},
            headers={"Prefer": "respond-async"},
        )
    )
    assert begun is not None, "the answer was not begun"
    assert begun.status == 202, begun
    paths = (f"{begun.headers['location']}/events", "/v1/sessions/many-streams/events")
    ports = attack.everywhere

    async def again(number: int) -> None:
        await attack.pause(number / 100)
        while attack.left > 0:
            attack.tally.made += 1
            try:
                async with attack.connection(ports[number % len(ports)]) as line:
                    async with asyncio.timeout_at(attack.deadline):
                        await line.send(request("GET", paths[number % 2], key=key))
                        status, headers = await line.head()
                        attack.tally.take(Answer(status, headers, b""))
                        attack.tally.check(status in (200, 429, 503), f"status {status}")
                        async for _ in line.pieces(headers):
                            pass
            except TimeoutError:
                attack.tally.answers["open at the end"] += 1
            except (Cut, OSError):
                attack.tally.take(None)
            await attack.pause(5.0)

    await asyncio.gather(*(again(number) for number in range(1_000)))
