"""A tiny ASGI application with a lifespan, for tests of processes: no framework, no store.

    /stream?n=..&gap=..   numbered lines, `gap` seconds apart, then `end`
    /hang                 one line, and no end
    /broken               half an answer and a BrokenAnswer
    /pid                  which process answers
    /state                whether it drains: 200 open, 503 draining
    /metrics-dir          the directory in which the workers' metrics are added up

What happens to it is written, one line per fact, into the file that STANDIN_JOURNAL names.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from service.errors import BrokenAnswer

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def journal(fact: str) -> None:
    path = os.environ.get("STANDIN_JOURNAL")
    if path:
        with open(path, "a") as file:
            file.write(f"{time.monotonic():.3f} {os.getpid()} {fact}\n")


def create_app(settings: object = None) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    if os.path.exists(os.environ.get("STANDIN_BROKEN", "/nonexistent")):
        raise RuntimeError("this version does not boot")
    return _app


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(scope, receive, send)
        return
    leaving = scope["state"]["leaving"]
    arguments = {name: float(values[0]) for name, values in parse_qs(scope["query_string"].decode()).items()}
    path = scope["path"]
    if path == "/stream":
        await _stream(send, int(arguments.get("n", 10)), arguments.get("gap", 0.1))
    elif path == "/hang":
        await _hang(send)
    elif path == "/broken":
        await _start(send)
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise BrokenAnswer
    elif path == "/metrics-dir":
        await _answer(send, 200, os.environ.get("PROMETHEUS_MULTIPROC_DIR", "").encode())
    elif path == "/state":
        await _answer(send, 503 if leaving.is_set() else 200, b"draining" if leaving.is_set() else b"open")
    else:
        await _answer(send, 200, str(os.getpid()).encode())


async def _lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    leaving = scope["state"]["leaving"]

    async def watch() -> None:
        await leaving.wait()
        journal("drain")

    watcher = asyncio.create_task(watch())
    journal("startup")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    journal("shutdown")
    watcher.cancel()
    await send({"type": "lifespan.shutdown.complete"})


async def _start(send: Send, status: int = 200) -> None:
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _stream(send: Send, n: int, gap: float) -> None:
    await _start(send)
    try:
        for number in range(n):
            await send({"type": "http.response.body", "body": b"%d\n" % number, "more_body": True})
            await asyncio.sleep(gap)
        await send({"type": "http.response.body", "body": b"end\n"})
    except asyncio.CancelledError:
        journal("cancelled")
        raise


async def _hang(send: Send) -> None:
    await _start(send)
    await send({"type": "http.response.body", "body": b"hanging\n", "more_body": True})
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        journal("cancelled")
        raise
