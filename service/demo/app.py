"""The demo model's routes: its models, and a chat completion, streamed or whole.

It refuses only what it cannot answer: a body that is no chat request (400) and a model that it does not
have (404). Token k of a stream is due at start + k / rate, however long the writes took. Whoever leaves
ends the answer.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from service.demo.models import CATALOGUE
from service.demo.request import ChatRequest, read_request
from service.demo.script import Script, message, write_script
from service.demo.wire import DONE, Usage, Wire, dumps

_ROOT: Final = "/openai/v1"
_MODELS: Final = {model.id: model for model in CATALOGUE}
_SEED: Final = 1_000_000_007


def create_demo(*, rate: float = 50.0, first_delay: float = 0.0) -> Starlette:
    """`rate` in tokens a second, 0 as fast as possible; `first_delay` in seconds."""

    async def chat(request: Request) -> Response:
        try:
            fields: dict[str, Any] = orjson.loads(await request.body())
            model = _MODELS.get(str(fields.get("model")))
            if model is None:
                return _no_model(str(fields.get("model")))
            asked = read_request(fields, model)
            script = write_script(asked, rate=rate, first_delay=first_delay)
        except (ValueError, TypeError, AttributeError) as error:
            return _error(400, f"The demo model cannot read this: {error}", None)
        wire = Wire(model.id, f"req_{uuid.uuid4().hex[:26]}", _SEED)
        usage = Usage(
            asked.prompt_tokens, script.length, reasoning=len(script.reasoning), seconds=script.seconds
        )
        if asked.stream:
            stream = _stream(asked, script, wire, usage)
            return StreamingResponse(
                stream, media_type="text/event-stream", headers={"cache-control": "no-cache"}
            )
        await asyncio.sleep(script.first_delay + script.seconds)
        return _json(wire.completion(message(script, asked.thoughts), script.finish, usage))

    return Starlette(
        routes=[
            Route(f"{_ROOT}/chat/completions", chat, methods=["POST"]),
            Route(f"{_ROOT}/models", _models),
            Route(f"{_ROOT}/models/{{name:path}}", _model),
        ]
    )


async def _models(request: Request) -> Response:
    return _json(dumps({"object": "list", "data": [model.describe() for model in CATALOGUE]}))


async def _model(request: Request) -> Response:
    name: str = request.path_params["name"]
    return _json(dumps(_MODELS[name].describe())) if name in _MODELS else _no_model(name)


async def _stream(request: ChatRequest, script: Script, wire: Wire, usage: Usage) -> AsyncIterator[bytes]:
    now = asyncio.get_running_loop().time
    yield wire.role()
    start = now() + script.first_delay
    for sent, token in enumerate(_tokens(request, script, wire)):
        # Sleeps of no length too: one fast stream starves nobody.
        await asyncio.sleep(max(0.0, start - now() + (sent / script.rate if script.rate else 0.0)))
        yield token
    yield wire.finish(script.finish, usage)
    if request.include_usage:
        yield wire.usage(usage)
    yield DONE


def _tokens(request: ChatRequest, script: Script, wire: Wire) -> Iterator[bytes]:
    """What is sent for each token; nothing for one that is hidden, which takes its time all the same."""
    raw = bool(script.reasoning) and request.thoughts == "raw"
    channel = request.model.reasoning == "analysis"
    last = len(script.reasoning) - 1
    for place, token in enumerate(script.reasoning):
        if raw:
            yield wire.content(f"{'<think>' * (place == 0)}{token}{'</think>' * (place == last)}")
        elif request.thoughts == "parsed":
            yield wire.reasoning(token, channel)
        else:
            yield b""
    for token in script.tokens:
        yield wire.content(token)


def _no_model(name: str) -> Response:
    return _error(404, f"The demo model does not go by the name `{name}`.", "model_not_found")


def _error(status: int, message: str, code: str | None) -> Response:
    error = {"message": message, "type": "invalid_request_error", "code": code}
    return _json(dumps({"error": error}), status)


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")
