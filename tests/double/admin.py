"""The test's side door, /_double/*: faults, calls, settings, health.

  GET    health                      {status, calls, open, tokens, ends}
  GET    calls?after=N&limit=M&contains=TEXT&ended=1&wait=S
                                     {calls: [...]}, oldest first; with `wait` up to S seconds for the
                                     first that matches; limit keeps the newest M
  GET    calls/N                     one of them
  DELETE calls                       forget calls and the count of attempts
  GET POST DELETE faults             {faults: [...]}; POST takes one fault or a list of them
  GET POST settings                  the settings; POST changes those it names
Errors are 400 {"error": {"message"}}. Nothing here is part of Groq's API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import parse_qs

import orjson

from tests.double.calls import Call, Calls
from tests.double.faults import Fault, FaultQueue
from tests.double.line import Line, Scope
from tests.double.refusals import JSON
from tests.double.settings import Settings


class Served(Protocol):
    """What of a double can be looked at and changed."""

    settings: Settings
    calls: Calls
    faults: FaultQueue

    def configure(self, settings: Settings) -> None: ...


class Admin:
    def __init__(self, double: Served) -> None:
        self._double = double

    async def serve(self, scope: Scope, line: Line, body: bytes) -> None:
        status = 200
        try:
            answer = await self._answer(scope, line, body)
        except (ValueError, KeyError, TypeError) as error:
            status, answer = 400, {"error": {"message": str(error)}}
        if answer is None:
            status, answer = 404, {"error": {"message": f"no {scope['method']} {scope['path']}"}}
        await line.respond(status, [("content-type", JSON)], orjson.dumps(answer))

    async def _answer(self, scope: Scope, line: Line, body: bytes) -> dict[str, object] | None:
        double = self._double
        _, _, name, *rest = str(scope["path"]).split("/")
        match (scope["method"], name, rest):
            case ("GET", "health", []):
                return self._health()
            case ("GET", "calls", []):
                query = parse_qs(scope["query_string"].decode())
                return await self._calls(line, {key: values[-1] for key, values in query.items()})
            case ("GET", "calls", [number]):
                found = [call for call in double.calls if str(call.number) == number]
                return found[0].describe() if found else None
            case ("DELETE", "calls", []):
                double.calls.clear()
                return {"calls": []}
            case ("POST", "faults", []):
                wishes = orjson.loads(body)
                for fields in wishes if isinstance(wishes, list) else [wishes]:
                    double.faults.add(Fault.parse(_object(fields)))
                return {"faults": double.faults.describe()}
            case ("DELETE", "faults", []):
                double.faults.clear()
                return {"faults": []}
            case ("GET", "faults", []):
                return {"faults": double.faults.describe()}
            case ("POST", "settings", []):
                double.configure(double.settings.changed(_object(orjson.loads(body))))
                return double.settings.describe()
            case ("GET", "settings", []):
                return double.settings.describe()
        return None

    def _health(self) -> dict[str, object]:
        calls = self._double.calls
        return {
            "status": "ok",
            "calls": calls.total,
            "open": len(calls.running),
            "tokens": calls.tokens,
            "ends": calls.ends,
        }

    async def _calls(self, line: Line, query: Mapping[str, str]) -> dict[str, object]:
        calls = self._double.calls
        deadline = line.now() + float(query.get("wait", 0))

        def matching() -> list[Call]:
            return calls.find(
                after=int(query.get("after", 0)),
                contains=query.get("contains", ""),
                ended=query.get("ended", "") not in ("", "0", "false"),
            )

        found = matching()
        while not found and (left := deadline - line.now()) > 0:
            try:
                await asyncio.wait_for(calls.changed(), left)
            except TimeoutError:
                break
            found = matching()
        limit = int(query.get("limit", 0))
        return {"calls": [call.describe() for call in (found[-limit:] if limit else found)]}


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError("the body has to be a JSON object")
    return value
