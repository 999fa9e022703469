"""OpenAI's Responses over the durable log: create, retrieve, read on, cancel, delete.

A response is a turn, and its id names session and turn (dialects/responses_object.py). Without
`previous_response_id`, `conversation` and `background` it is in a session without a name, so it ends when it
has no reader. Retrieving it names the session.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from service import ids, parts
from service.api import bodies, examples, uploads
from service.api.answers import Json
from service.api.edge import admitted, edge_of, principal_of
from service.api.item_references import resolved
from service.api.operation import (
    HOLDS,
    RESUMES,
    SEND_HEADERS,
    SENDING,
    SENDS,
    STREAMS,
    Answer,
    documented,
    plain,
)
from service.api.responses_resource import (
    DELETED,
    ITEM_PAGE,
    ITEMS,
    listed,
    page_size,
    ref_of,
    response_object,
    response_turn,
    stored_items,
)
from service.api.routes.openai import both
from service.api.routes.turns import charge_stop
from service.api.sending import Sending, turn_headers
from service.api.turn_response import TurnResponse
from service.dialects.responses import STEP, ResponseObject, ResponseStream
from service.dialects.responses_object import OUTPUT, named
from service.dialects.responses_request import Call, ResponseBody, begin_with, go_on_with, parse
from service.engine.chains import previous_not_found
from service.engine.engine import Engine
from service.errors import ServiceError
from service.store.turn_records import Turn, TurnRef
from service.telemetry import metrics

router = APIRouter(tags=["openai"])

_OBJECT: Final = plain("Response", examples.RESPONSE, "The response")
_BODIES: Final = {
    "application/json": ("Response", examples.RESPONSE),
    "text/event-stream": ("ResponseEvent", examples.RESPONSE_EVENTS),
}

# Input messages of a response: those that a new session may begin with (1,000), and the question.
_MOST_INPUT: Final = 1_001


@both(
    router,
    "POST",
    "/v1/responses",
    "OpenAI's Responses: streamed, in one piece or in the background",
    "Without `previous_response_id` and `conversation` the input is the whole context. With "
    "`background` the answer runs on without readers, and every failure is told by the response.",
)
@documented(
    Answer("The response, or with `stream` its events and `[DONE]`", _BODIES, SEND_HEADERS),
    *(code for code in SENDS if code != "context_too_long"),
    "context_length_exceeded",
    *HOLDS,
    "previous_response_not_found",
    "not_found",
    parameters=SENDING,
    body=ResponseBody,
)
async def create(request: Request) -> Response:
    engine = edge_of(request).engine
    async with Sending(request) as sending:
        body, images = await uploads.read(request)
        call = parse(body, sending.principal.id)
        stream, background = bool(call.body.stream), bool(call.body.background)
        call.send.images = images
        await _place(engine, call, bodies.idempotency_key(request))
        attached = await sending.start(call.send, reads=stream or not background)
    headers = turn_headers(attached.ref)
    if background and not stream:
        turn = await engine.turn(attached.ref)
        return Json(await response_object(engine, turn), headers=headers)
    echo = call.send.response
    return TurnResponse(
        engine,
        attached.ref,
        ResponseStream(echo) if stream else ResponseObject(echo),
        void=attached.void,
        headers=headers,
        # A client that is told the id at once can come back, so its leaving ends nothing.
        left=None if stream and echo["store"] else sending.left(attached.ref),
    )


@both(router, "GET", "/v1/responses/{response_id}", "A response as it stands, or its events from a number on")
@documented(
    Answer("As it stands, or with `stream=true` its events behind `starting_after`", _BODIES, SEND_HEADERS),
    "response_not_found",
    *STREAMS,
    *RESUMES,
    "turn_not_found",
    parameters=("stream", "starting_after"),
)
async def retrieve(request: Request, response_id: str) -> Response:
    edge, principal = await admitted(request)
    turn = await response_turn(edge.engine, ref_of(principal.id, response_id))
    if request.query_params.get("stream") != "true":
        return Json(await response_object(edge.engine, turn))
    after = _starting_after(request)
    edge.open_streams.take(request, principal)
    seen = 0 if after is None else after // STEP
    if 1 < seen < turn.void:
        raise ServiceError(
            "events_expired", "The answer was begun again; read the response from its start.", status=409
        )
    # A reader that has seen the last event is sent the end once more.
    try:
        ended = not await edge.engine.readers.check(turn.ref, seen)
    except ServiceError as error:
        if error.code != "cursor_ahead":
            raise
        # The reader's own sentence names an event's id, which is not what the client has sent.
        sentence = "starting_after is beyond the last event of this response."
        raise ServiceError("cursor_ahead", sentence, param="starting_after") from None
    if ended:
        await edge.engine.readers.check(turn.ref, 0)
    if after is not None:
        metrics.reader_resumes.inc()
    encoder = ResponseStream(turn.response, after=after, holds=False, ended=ended)
    return TurnResponse(edge.engine, turn.ref, encoder, void=turn.void, headers=turn_headers(turn.ref))


@both(
    router,
    "POST",
    "/v1/responses/{response_id}/cancel",
    "Stop a response; answers after it has ended",
    "One that has ended stays as it is.",
)
@documented(_OBJECT, "response_not_found", "turn_not_found")
async def cancel(request: Request, response_id: str) -> Response:
    principal = await principal_of(request)
    engine = edge_of(request).engine
    found = named(response_id)
    await charge_stop(request, principal, found.session_id if found else "", found.turn_id if found else None)
    ref = ref_of(principal.id, response_id)
    turn = await response_turn(engine, ref)
    if not turn.sealed:
        turn = await engine.stop(ref)
    return Json(await response_object(engine, turn))


@both(
    router,
    "DELETE",
    "/v1/responses/{response_id}",
    "Delete a response; one that runs is stopped",
    "A session that was made for it alone goes with it; in any other the messages stay.",
)
@documented(DELETED, "response_not_found", "turn_in_progress", "turn_not_found", "session_not_found")
async def delete(request: Request, response_id: str) -> Response:
    edge, principal = await admitted(request)
    engine = edge.engine
    ref = ref_of(principal.id, response_id)
    turn = await response_turn(engine, ref)
    if not turn.sealed:
        await engine.stop(ref)
    session = await engine.history.session(ref.principal, ref.session_id)
    # A session that was made for this response alone is deleted with it. In any other the messages stay.
    ours = "store" in turn.response and "conversation" not in turn.response
    if ours and session is not None and session.turns == 1:
        await engine.delete(ref.principal, ref.session_id)
    else:
        await engine.history.withdraw(ref)
    return Json({"id": response_id, "object": "response", "deleted": True})


@both(router, "GET", "/v1/responses/{response_id}/input_items", "What a response was asked")
@documented(ITEMS, "response_not_found", "invalid_request", parameters=ITEM_PAGE)
async def input_items(request: Request, response_id: str) -> Response:
    edge, principal = await admitted(request)
    ref = ref_of(principal.id, response_id)
    turn = await response_turn(edge.engine, ref)
    limit, descending = page_size(request), bodies.newest_first(request, "desc")
    items: list[dict[str, Any]] = []
    place: int | None = turn.pos
    own, at = True, 0
    chained = "previous_response_id" in turn.response
    if turn.goes_on:
        items, own = await _outputs(edge.engine, turn), False
    while own and place is not None and len(items) < _MOST_INPUT:
        page, place = await edge.engine.history.messages(
            ref.principal, ref.session_id, _MOST_INPUT, place, newest_first=True
        )
        for message in page:
            at = at or message.created
            # Messages that a session began with have the time of its first question; added items have not.
            # In a copy of an older response they are the conversation before, and not this one's input.
            began = message.turn_id == "" and message.created == at and not chained
            own = began or message.turn_id == ref.turn_id
            if not own:
                break
            items += stored_items(ref.session_id, message)[::-1]
    items = items if descending else items[::-1]
    return Json(listed(items, after=request.query_params.get("after"), limit=limit))


async def _outputs(engine: Engine, turn: Turn) -> list[dict[str, Any]]:
    """The outputs of function calls that a response was sent, newest first."""
    ref = turn.ref
    answer = await engine.history.message(ref.principal, ref.session_id, turn.answer_id)
    if answer is None or answer.turn_id != ref.turn_id:
        return []
    outputs = [item for item in stored_items(ref.session_id, answer) if item["type"] == OUTPUT]
    answered = [one for one in parts.rounds(answer.whole) if parts.has_results(one)]
    count = sum(part["type"] == parts.RESULT for part in answered[-1]) if answered else 0
    return outputs[len(outputs) - count :][::-1]


def _starting_after(request: Request) -> int | None:
    """Raises bad_cursor."""
    value = request.query_params.get("starting_after")
    if value is None:
        return None
    return bodies.place_in_log(value, "starting_after is an integer from 0.", "starting_after")


async def _place(engine: Engine, call: Call, key: str | None) -> None:
    """Find the session of a request, and which of its input is new there.

    Raises previous_response_not_found, not_found, unsupported_parameter, invalid_request, query_empty.
    """
    send, history = call.send, engine.history
    if call.body.previous_response_id is not None:
        found = named(call.body.previous_response_id)
        if found is None or found.kind != "resp" or not ids.is_session_id(found.session_id):
            raise previous_not_found()
        ref = TurnRef(send.principal, found.session_id, found.turn_id)
        answering = any(item.kind == "output" for item in call.items)
        base = await history.base_of(ref, key, answering=answering)
        send.session_id, send.seeds, send.system = base.session_id, base.seeds, base.system
        send.seeds_from = base.source
        go_on_with(call, await resolved(engine, send.principal, call.items, ref.session_id))
        return
    if call.conversation is not None:
        send.session_id = ids.check_session_id(call.conversation)
        repeats = engine.beginning.repeats
        known = key is not None and await repeats.knows(send.principal, send.session_id, key)
        if not known and await history.count(send.principal, send.session_id):
            go_on_with(call, await resolved(engine, send.principal, call.items, send.session_id))
            return
    elif call.body.background:  # a session with a name, so that the answer runs on without readers
        send.session_id = ids.derived_session_id(send.principal, key) if key else ids.new_session_id()
    begin_with(call, await resolved(engine, send.principal, call.items, None))
