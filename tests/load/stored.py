"""What sessions cost in Redis, and whether images slow what is only text: figures of docs/performance.md.

`python -m tests.load.stored` starts a Redis, a double of the provider and a service for that. Bytes are
Redis's own word (MEMORY USAGE) of a session's keys; times are those of a client on the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import redis

from service.store.messages import Message
from tests.data import history
from tests.double import create_double, running
from tests.support.pictures import data_url, png
from tests.support.redis import RedisServer
from tests.support.service import Served, serve

_SEES: Final = "qwen/qwen3.8-27b"
_BLIND: Final = "openai/gpt-oss-120b"
_IMAGES: Final = 20
_IMAGE_BYTES: Final = 200_000


def text_messages() -> dict[str, bytes]:
    """The messages of text alone that version 0.1.0 has stored, by their ids, as it wrote them."""
    keys: dict[str, Any] = json.loads(history.PATH.read_text())
    found = {}
    for name, kept in keys.items():
        if name.endswith(":messages"):
            for message_id, body in kept["value"].items():
                if "tool_calls" not in body:
                    found[message_id] = body.encode()
    return found


def per_message(store: redis.Redis, bodies: dict[str, bytes]) -> float:
    """Bytes of Redis for each of so many messages of one session."""
    names = ("stored:messages", "stored:order")
    store.hset(names[0], mapping=dict(bodies.items()))
    store.zadd(names[1], {message_id: place for place, message_id in enumerate(bodies)})
    size = sum(memory(store, name) for name in names)
    store.delete(*names)
    return size / len(bodies)


def memory(store: redis.Redis, name: str) -> int:
    return int(str(store.memory_usage(name, samples=0) or 0))


def of_session(store: redis.Redis, session: str) -> int:
    return sum(memory(store, name) for name in store.scan_iter(f"chat:{{none.anonymous/{session}}}*"))


async def say(served: Served, session: str, text: str, image: bytes = b"", model: str = _SEES) -> float:
    """Seconds until the first text of the answer has come."""
    shown = [{"type": "image", "url": data_url(image)}] if image else []
    body = {"content": [{"type": "text", "text": text}, *shown], "model": model}
    began, first = time.perf_counter(), 0.0
    async with served.client.stream("POST", f"/v1/sessions/{session}/turns", json=body) as answer:
        assert answer.status_code == 200, await answer.aread()
        async for line in answer.aiter_lines():
            if line == "event: delta" and not first:
                first = time.perf_counter() - began
            assert line != "event: turn.failed"
    assert first
    return first


async def measured(served: Served, store: redis.Redis, turns: int) -> dict[str, str]:
    await say(served, "one", "[[say=Red.]] What is it?", png(640, 480, extra=_IMAGE_BYTES))
    with_image = of_session(store, "one")
    await say(served, "none", "[[say=Red.]] What is it?")
    image = len(png(640, 480, extra=_IMAGE_BYTES))
    beside = with_image - of_session(store, "none") - image
    for number in range(_IMAGES):
        picture = png(640, 480 + number, extra=_IMAGE_BYTES)
        await say(served, "pictures", f"[[say=Red.]] No. {number}", picture)
        await say(served, "words", f"[[say=Red.]] No. {number}")
    kept = of_session(store, "pictures")
    told = {
        f"an image of {image:,} bytes, besides its bytes": f"{beside:,} bytes",
        f"a session of {_IMAGES} such images": f"{kept:,} bytes",
    }
    for model, sees in ((_BLIND, "a model that sees none"), (_SEES, "one that is shown the newest 3")):
        times: dict[str, list[float]] = {"words": [], "pictures": []}
        for number in range(turns):
            for session, found in times.items():
                found.append(await say(served, session, f"[[say=Yes.]] {number}", model=model))
        words, pictures = (statistics.median(found) * 1000 for found in times.values())
        what = f"a text turn's first text (p50 of {turns}), by {sees}, behind {_IMAGES} turns"
        told |= {f"{what} of text": f"{words:.2f} ms", f"{what} with an image each": f"{pictures:.2f} ms"}
    await served.client.delete("/v1/sessions/pictures")
    left = list(store.scan_iter("chat:{none.anonymous/pictures}*"))
    return told | {"keys of the session with images after its delete": str(len(left))}


async def figures(turns: int) -> dict[str, str]:
    double = create_double(rate=0)
    with tempfile.TemporaryDirectory(prefix="chat-stored-") as directory, running(double) as provider:
        server = RedisServer(Path(directory))
        try:
            store = server.client()
            before = text_messages()
            now = {name: Message.load(name, body).dump() for name, body in before.items()}
            forms = {
                f"by version 0.1.0 (mean of {len(before)})": before,
                "now": now,
            }
            told = {}
            for form, bodies in forms.items():
                size = sum(map(len, bodies.values())) / len(bodies)
                told[f"a text message's JSON, as stored {form}"] = f"{size:.1f} bytes"
                told[f"the message in Redis, as stored {form}"] = f"{per_message(store, bodies):.0f} bytes"
            async with serve(server.url, provider) as served:
                told |= await measured(served, store, turns)
            return told
        finally:
            server.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load.stored", description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=200, help="turns whose first text is timed, per session")
    told = asyncio.run(figures(parser.parse_args().turns))
    print("| what | figure |\n|---|---|")
    for what, figure in told.items():
        print(f"| {what} | {figure} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
