"""OpenAI's routes, and the same ones below /openai, where Groq's clients look for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from service.api import examples, uploads
from service.api.answers import Json
from service.api.edge import Edge, admitted
from service.api.operation import HOLDS, SEND_HEADERS, SENDING, SENDS, Answer, Handler, documented, plain
from service.api.sending import Sending
from service.dialects import openai_request
from service.errors import ServiceError

router = APIRouter(tags=["openai"])

_COMPLETION: Final = Answer(
    "One object, or with `stream` a chunk per `data:` line and `[DONE]`",
    {
        "application/json": ("ChatCompletion", examples.COMPLETION),
        "text/event-stream": ("CompletionEvent", examples.COMPLETION_CHUNKS),
    },
    SEND_HEADERS,
)


def both(
    router: APIRouter, method: str, path: str, summary: str, description: str = ""
) -> Callable[[Handler], Handler]:
    """A route of OpenAI's clients, and the same one below /openai, where Groq's look for it."""

    def register(handler: Handler) -> Handler:
        for prefix, words in (("/openai", "The same for Groq's clients"), ("", summary)):
            router.add_api_route(
                prefix + path, handler, methods=[method], summary=words, description=description
            )
        return handler

    return register


@both(
    router,
    "POST",
    "/v1/chat/completions",
    "OpenAI's chat completions, streamed or in one piece",
    "The messages are the whole context. A session (`session_id` or `X-Session-Id`) keeps the "
    "last message of the user and the answer. What a model cannot do is 400 `unsupported_parameter`. A "
    'failure in mid-stream is `data: {"error": ...}` without `[DONE]`.',
)
@documented(
    _COMPLETION,
    *SENDS,
    *HOLDS,
    parameters=(*SENDING, "X-Session-Id"),
    body=openai_request.CompletionBody,
)
async def chat_completions(request: Request) -> Response:
    async with Sending(request) as sending:
        body, images = await uploads.read(request)
        send, encoder = openai_request.parse(
            body,
            sending.principal.id,
            request.headers.get("x-session-id"),
            groq=request.scope["route"].path.startswith("/openai/"),
        )
        send.images = images
        return sending.answer(await sending.start(send), encoder)


def model_resource(edge: Edge, model: Any) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "created": 0,
        "owned_by": model.owned_by,
        "active": edge.engine.governor.offers(model),
        "context_window": model.context_window,
        "max_completion_tokens": model.max_completion_tokens,
        "input_modalities": ["text", "image"] if model.images else ["text"],
        "capabilities": sorted(model.capabilities),
        "reasoning_efforts": list(model.reasoning_efforts),
        "fallbacks": list(model.fallbacks),
        "aliases": list(model.aliases),
        "default": model is edge.engine.catalogue.default,
    }


@both(router, "GET", "/v1/models", "The models, in OpenAI's list shape")
@documented(plain("Models", examples.MODELS, "The models"))
async def list_models(request: Request) -> Response:
    edge, _ = await admitted(request)
    found = [model_resource(edge, model) for model in edge.engine.catalogue]
    return Json({"object": "list", "data": found})


@both(router, "GET", "/v1/models/{model_id:path}", "One model, by id or alias")
@documented(plain("Model", examples.MODEL, "The model"), "model_not_found")
async def get_model(request: Request, model_id: str) -> Response:
    edge, _ = await admitted(request)
    if not model_id:
        raise ServiceError("model_not_found", "There is no model of that name.")
    return Json(model_resource(edge, edge.engine.catalogue.resolve(model_id)))
