"""OpenAI's routes, and the same ones below /openai, where Groq's clients look for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response

from service.api import bodies
from service.api.edge import edge_of
from service.api.responses import TurnResponse
from service.api.routes import health
from service.api.sending import Sending, turn_headers
from service.dialects import openai_request

router = APIRouter()
Handler = TypeVar("Handler", bound=Callable[..., Any])


def both(router: APIRouter, method: str, path: str, summary: str) -> Callable[[Handler], Handler]:
    """A route of OpenAI's clients, and the same one below /openai, where Groq's look for it."""

    def register(handler: Handler) -> Handler:
        router.add_api_route(
            f"/openai{path}", handler, methods=[method], summary="The same for Groq's clients"
        )
        router.add_api_route(path, handler, methods=[method], summary=summary)
        return handler

    return register


@both(router, "POST", "/v1/chat/completions", "OpenAI's chat completions, streamed or in one piece")
async def chat_completions(request: Request) -> Response:
    async with Sending(request) as sending:
        body = await bodies.read_json(request)
        send, encoder = openai_request.parse(
            body,
            sending.principal.id,
            request.headers.get("x-session-id"),
            groq=request.scope["route"].path.startswith("/openai/"),
        )
        attached = await sending.start(send)
    return TurnResponse(
        edge_of(request).engine,
        attached.ref,
        encoder,
        void=attached.void,
        headers=turn_headers(attached),
        left=sending.left(attached.ref),
    )


router.add_api_route("/openai/v1/models", health.list_models, summary="The models, for Groq's clients")
router.add_api_route(
    "/openai/v1/models/{model_id:path}", health.get_model, summary="One model, by id or alias"
)
