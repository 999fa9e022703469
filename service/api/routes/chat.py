"""The original contract: POST /chat and POST /chat-with-history, answered as text/plain."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.api import bodies
from service.api.edge import edge_of
from service.api.responses import TurnResponse
from service.api.sending import Sending, turn_headers
from service.dialects import text

router = APIRouter()


@router.post("/chat", summary="Ask, and get the answer's text as it is generated")
async def chat(request: Request) -> Response:
    return await _answer(request, with_history=False)


@router.post("/chat-with-history", summary="The same with earlier messages as context")
async def chat_with_history(request: Request) -> Response:
    return await _answer(request, with_history=True)


async def _answer(request: Request, *, with_history: bool) -> Response:
    async with Sending(request) as sending:
        body = await bodies.read_json(request)
        attached = await sending.start(text.parse(body, sending.principal.id, with_history=with_history))
    return TurnResponse(
        edge_of(request).engine,
        attached.ref,
        text.TextEncoder(),
        void=attached.void,
        headers=turn_headers(attached),
        left=sending.left(attached.ref),
    )
