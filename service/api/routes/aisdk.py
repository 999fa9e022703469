"""useChat's routes: send, resume, stop, messages; and the module that makes any useChat resume.

Resuming without a cursor replays the whole answer, and goes on replaying it until its end was
sent to somebody: a page that lost the connection must not be told that there is nothing more.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from service import ids
from service.api import bodies, examples, uploads
from service.api.accept import has_already
from service.api.answers import listed, streamed
from service.api.edge import admitted, edge_of, principal_of
from service.api.operation import (
    HOLDS,
    OF_SESSION,
    OF_TURN,
    SEND_HEADERS,
    SENDING,
    SENDS,
    STREAMS,
    Answer,
    documented,
    plain,
)
from service.api.request_state import request_state
from service.api.routes.turns import charge_stop
from service.api.sending import Sending, turn_headers
from service.api.turn_response import TurnResponse
from service.api.ui_messages import ui_message
from service.dialects import aisdk
from service.dialects.aisdk_request import UseChatBody, parse
from service.engine.engine import Engine
from service.errors import ServiceError, StoreUnavailable
from service.eventloop.shared_task import result_of
from service.store.turn_records import Turn, TurnRef
from service.telemetry import metrics
from service.telemetry.logs import get_logger

router = APIRouter(tags=["aisdk"])

_CHUNKS: Final = Answer(
    "The UI message stream; every chunk has an id to resume from",
    {"text/event-stream": ("UIMessageEvent", examples.UI_CHUNKS)},
    (*SEND_HEADERS, "x-vercel-ai-ui-message-stream"),
)
_CACHED: Final = ("ETag", "Cache-Control")

_PAGE: Final = 500
_MODULE: Final = Path(__file__).parents[2] / "web" / "client" / "resumable-fetch.js"
# Apps import the module on every page load. A new version reaches them within an hour.
_MODULE_CACHE: Final = "public, max-age=3600, stale-while-revalidate=86400"

log = get_logger(__name__)


@router.post(
    "/api/chat",
    summary="useChat: submit, edit or regenerate; the answer as UI message stream",
    description="The server's texts count: of `messages` it takes the last one of the user, and the "
    "texts before it only where it has nothing. What the list has cut off before it is cut off here. "
    "Where the last message is an answer, the results of its tools go on with it; so does `continue`, "
    "where it was cut. A running answer is interrupted. Without an `Idempotency-Key` the message's id is "
    "the key. Errors are one plain sentence.",
)
@documented(
    {200: _CHUNKS, 204: Answer("A repeat whose `Last-Event-ID` was the last chunk", {}, SEND_HEADERS)},
    *SENDS,
    *HOLDS,
    "message_not_found",
    "bad_cursor",
    "cursor_ahead",
    parameters=(*SENDING, "Last-Chunk-ID", "X-Accept-Chunks"),
    body=UseChatBody,
)
async def chat(request: Request) -> Response:
    async with Sending(request, key_in_body=True) as sending:
        document, images = await uploads.read(request, only_last=True)
        send = parse(document, sending.principal.id)
        send.images = images
        send.key = bodies.idempotency_key(request) or send.key or bodies.fallback_key(request)
        after = _cursor(request)
        attached = await sending.start(send)
    headers = turn_headers(attached.ref)
    if attached.fresh or after is None:
        encoder = aisdk.AiSdkEncoder(attached.ref.turn_id, resets=_resets(request))
        return _answer(request, attached.ref, encoder, attached.void, headers)
    turn = await edge_of(request).engine.turn(attached.ref)
    return await _continue(request, turn, after, headers)


@router.get(
    "/api/chat/{session_id}/stream",
    summary="useChat: resume the newest answer",
    description="A replay from `start`, or with `Last-Event-ID` exactly what follows that chunk. While a "
    "turn runs the head comes at once, and a failure as an `error` part.",
)
@documented(
    {200: _CHUNKS, 204: Answer("Nothing is running, and the last end was sent to somebody")},
    *OF_TURN,
    *STREAMS,
    *HOLDS,
    "bad_cursor",
    "cursor_ahead",
    "draining",
    parameters=("Last-Chunk-ID", "X-Accept-Chunks"),
)
async def resume(request: Request, session_id: str) -> Response:
    edge, principal = await admitted(request)
    engine = edge.engine
    ids.check_session_id(session_id)
    after = _cursor(request)
    edge.open_streams.take(request, principal)
    if after is not None:
        turn = await engine.turn(TurnRef(principal.id, session_id, after.turn_id))
        return await _continue(request, turn, after)
    newest = await _newest(engine, principal.id, session_id)
    if newest is None:
        return Response(status_code=204)
    # useChat says `ready` until the head comes. So of a running turn the head is sent at once.
    before = await engine.said_before(newest)
    encoder = aisdk.AiSdkEncoder(
        newest.ref.turn_id, resets=_resets(request), holds=newest.sealed, before=before
    )
    return _answer(request, newest.ref, encoder, newest.void)


@router.post("/api/chat/{session_id}/stop", summary="useChat: stop the answer that is running")
@documented(
    Answer("A sentence for people", {"text/plain": (None, "The answer was stopped.")}),
    *OF_SESSION,
    "turn_not_found",
)
async def stop(request: Request, session_id: str) -> Response:
    principal = await principal_of(request)
    engine = edge_of(request).engine
    await charge_stop(request, principal, session_id)
    session = await engine.history.existing(principal.id, session_id)
    if session.active_turn is None:
        return PlainTextResponse("Nothing is being answered.")
    await engine.stop(TurnRef(principal.id, session_id, session.active_turn))
    return PlainTextResponse("The answer was stopped.")


@router.get("/api/chat/{session_id}/messages", summary="The history as useChat's messages")
@documented(
    plain("HistoryMessages", examples.HISTORY_MESSAGES, "What `useChat` begins with"), *OF_SESSION, *STREAMS
)
async def messages(request: Request, session_id: str) -> Response:
    edge, principal = await admitted(request)
    await edge.engine.history.existing(principal.id, session_id)
    edge.open_streams.take(request, principal)  # a response that its client does not read holds some MiB
    found = listed(
        lambda after: edge.engine.history.messages(principal.id, session_id, _PAGE, after),
        lambda message: ui_message(
            message, f"{request_state(request).prefix}/v1/sessions/{session_id}/images"
        ),
        b"[",
        b"]",
    )
    return await streamed(found)


@router.get("/client/resumable-fetch.js", summary="An ES module: a fetch that survives drops")
@documented(
    {
        200: Answer("The module", {"text/javascript": (None, None)}, _CACHED),
        304: Answer("The caller has it", {}, _CACHED),
    },
    parameters=("If-None-Match",),
    public=True,
)
async def module(request: Request) -> Response:
    body = await asyncio.to_thread(_MODULE.read_bytes)
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    # CORS, since pages of other origins import it; there is nothing in it to protect.
    headers = {"ETag": tag, "Cache-Control": _MODULE_CACHE, "Access-Control-Allow-Origin": "*"}
    if has_already(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="text/javascript; charset=utf-8", headers=headers)


def _cursor(request: Request) -> aisdk.Cursor | None:
    value = request.headers.get("last-event-id")
    return aisdk.Cursor.parse(value) if value else None


def _resets(request: Request) -> bool:
    """Does the client understand `reset-step`? Others end a stream with a type error at it."""
    return "reset-step" in request.headers.get("x-accept-chunks", "")


async def _newest(engine: Engine, principal: str, session_id: str) -> Turn | None:
    """The turn that a page without a cursor has to show; None if it has seen everything."""
    session = await engine.history.session(principal, session_id)
    if session is None:
        return None  # a new chat: useChat asks before there is anything
    turn_id = session.active_turn or await engine.history.newest_turn(principal, session_id)
    turn = await engine.history.find_turn(TurnRef(principal, session_id, turn_id)) if turn_id else None
    if turn is None or (turn.sealed and turn.delivered):
        return None
    if turn.sealed and not await engine.history.has_events(turn.ref):
        return None  # its log has expired; its message is in the history
    return turn


async def _continue(
    request: Request, turn: Turn, after: aisdk.Cursor, headers: dict[str, str] | None = None
) -> Response:
    """A response with exactly what follows a chunk. Raises bad_cursor, cursor_ahead, events_expired."""
    engine = edge_of(request).engine
    resets = _resets(request)
    encoder = aisdk.AiSdkEncoder(turn.ref.turn_id, after=after, resets=resets)
    if after.turn_id != turn.ref.turn_id:
        raise ServiceError("bad_cursor", "Last-Event-ID belongs to another answer of this chat.")
    if 1 < after.seq < turn.void and not resets:
        raise ServiceError("events_expired", "The answer was begun again; read it from its start.")
    await engine.history.named(turn.ref)
    if not await engine.readers.check(turn.ref, after.seq):
        log_of_turn = await engine.history.events(turn.ref)
        if not any(encoder.encode(event) for event in log_of_turn):
            return Response(status_code=204, headers=headers)
        encoder = aisdk.AiSdkEncoder(turn.ref.turn_id, after=after, resets=resets)
    metrics.reader_resumes.inc()
    return _answer(request, turn.ref, encoder, turn.void, headers)


def _answer(
    request: Request,
    ref: TurnRef,
    encoder: aisdk.AiSdkEncoder,
    void: int,
    headers: dict[str, str] | None = None,
) -> Response:
    engine = edge_of(request).engine
    return TurnResponse(engine, ref, encoder, void=void, headers=headers, ended=_delivering(engine, ref))


def _delivering(engine: Engine, ref: TurnRef) -> Callable[[], Awaitable[None]]:
    async def note() -> None:
        try:
            # Shielded: a client that has its answer leaves at once.
            await result_of(asyncio.create_task(engine.history.deliver(ref)))
        except StoreUnavailable:
            log.warning("deliver.unnoted", turn=ref.turn_id, action="the end may be replayed once more")

    return note
