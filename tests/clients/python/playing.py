"""What the scripts of all Python clients share: run the scenarios, print what came of each as JSON.

A script is a process of its own, in the environment of its client. It says how its library streams, calls
a tool and gives an object; this file asks the questions and catches the errors. It imports nothing but the
standard library, since no environment has the project's packages.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Asked:
    """The argument of the script, and what it has shown of an answer so far."""

    url: str
    model: str
    options: dict[str, Any]
    seen: list[str] = field(default_factory=list)
    called: list[str] = field(default_factory=list)

    @property
    def v1(self) -> str:
        return f"{self.url}/v1"

    @property
    def headers(self) -> dict[str, str]:
        """Of each call: the session that it is part of, where the client is to have one."""
        session = self.options.get("session")
        return {"X-Session-Id": session} if session else {}

    def show(self, piece: Any) -> None:
        """Text that a reader would see; None and "" are nothing."""
        if piece:
            self.seen.append(str(piece))

    def weather(self, city: str) -> str:
        """The weather in a city."""
        self.called.append(city)
        return f"Rain in {city}."


Scenario = Callable[[Asked, str], Any]


def play(*, stream: Scenario, tools: Scenario | None = None, structured: Scenario | None = None) -> None:
    """Each takes (asked, question). `stream` shows pieces, `tools` and `structured` return their answer."""
    given = json.loads(sys.argv[1])
    questions = given.pop("questions")
    ways = {"stream": stream, "tools": tools, "structured": structured, "cut": stream, "refused": stream}
    told = {}
    for name, question in questions.items():
        way = ways[name]
        if way is not None:
            told[name] = _one(way, Asked(given["url"], given["model"], given["options"]), question)
    # On a line of its own: libraries print too.
    sys.stdout.write("\n" + json.dumps(told))


def _one(way: Scenario, asked: Asked, question: str) -> dict[str, Any]:
    told: dict[str, Any] = {}
    try:
        answer = way(asked, question)
        if inspect.isawaitable(answer):
            answer = asyncio.run(_awaited(answer))
        if answer is not None:
            told["answer"] = answer
    except Exception as error:  # noqa: BLE001 - whatever a library raises is the result
        told["error"] = {
            "kind": getattr(error, "kind", type(error).__name__),
            "status": getattr(error, "status_code", None),
            "message": str(error),
        }
    if asked.seen:
        told["text"] = "".join(asked.seen)
    if asked.called:
        told["called"] = asked.called
    return told


async def _awaited(answer: Any) -> Any:
    return await answer
