"""The original contract: POST /chat and POST /chat-with-history, answered as text/plain."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response

from service.api import bodies
from service.api.operation import HOLDS, SEND_HEADERS, SENDING, SENDS, Answer, documented
from service.api.sending import Sending
from service.dialects import text

router = APIRouter(tags=["text"])

_TEXT: Final = Answer(
    "The answer's text as it is generated; a failure breaks the connection",
    {"text/plain": (None, "Rayleigh scattering: blue light is scattered most.")},
    SEND_HEADERS,
)


@router.post(
    "/chat",
    summary="Ask, and get the answer's text as it is generated",
    description="Without `session_id` and `X-Session-Id` a new session, whose id is in `X-Session-Id`.",
)
@documented(
    _TEXT,
    *SENDS,
    *HOLDS,
    parameters=(*SENDING, "X-Session-Id"),
    body=text.ChatBody,
)
async def chat(request: Request) -> Response:
    return await _answer(request, with_history=False)


@router.post(
    "/chat-with-history",
    summary="The same with earlier messages as context",
    description="`history` seeds a new or empty session; one that has messages is 409.",
)
@documented(
    _TEXT,
    *SENDS,
    *HOLDS,
    "session_has_history",
    parameters=(*SENDING, "X-Session-Id"),
    body=text.ChatWithHistoryBody,
)
async def chat_with_history(request: Request) -> Response:
    return await _answer(request, with_history=True)


async def _answer(request: Request, *, with_history: bool) -> Response:
    async with Sending(request) as sending:
        body = await bodies.read_json(request)
        session = request.headers.get("x-session-id")
        send = text.parse(body, sending.principal.id, session, with_history=with_history)
        return sending.answer(await sending.start(send), text.TextEncoder())
