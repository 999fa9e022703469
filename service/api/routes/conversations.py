"""OpenAI's Conversations: our sessions by another name, with their messages as items.

Any session of the caller is a conversation; one that is made here has an id that begins with `conv_`. Its
items come from responses: none are added or taken out by themselves.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import Field

from service import ids
from service.api import bodies, examples
from service.api.answers import Json
from service.api.edge import admitted
from service.api.operation import OF_SESSION, plain, says
from service.api.responses_resource import (
    DELETED,
    ITEM_PAGE,
    ITEMS,
    item_not_found,
    listed,
    message_id_of,
    newest_first,
    page_size,
    stored_items,
)
from service.api.routes.openai import both
from service.dialects.base import Body, validate
from service.dialects.responses_request import Metadata
from service.engine.history import session_not_found
from service.errors import ServiceError
from service.store.messages import Session

router = APIRouter(tags=["openai"])

_CONVERSATION: Final = plain("Conversation", examples.CONVERSATION, "The conversation")


class ConversationBody(Body):
    """`POST /v1/conversations`"""

    items: list[dict[str, Any]] | None = Field(None, max_length=0, description="none; a response brings them")
    metadata: Metadata | None = None


class ConversationPatch(Body):
    """`POST /v1/conversations/{c}`"""

    metadata: Metadata


def conversation_resource(session: Session) -> dict[str, Any]:
    metadata = orjson.loads(session.metadata) if session.metadata else {}
    return {
        "id": session.id,
        "object": "conversation",
        "created_at": session.created // 1000,
        "metadata": metadata,
    }


@both(router, "POST", "/v1/conversations", "Make a conversation")
@says(
    _CONVERSATION,
    "unsupported_parameter",
    "storage_full",
    body=ConversationBody,
    body_examples=examples.CONVERSATION_BODIES,
    body_required=False,
)
async def create(request: Request) -> Response:
    edge, principal = await admitted(request, "sends")  # it fills the store as a send does
    document = await bodies.read_json(request)
    if isinstance(document, dict) and document.get("items"):
        raise ServiceError(
            "unsupported_parameter",
            "A conversation begins empty: send its first items with a response.",
            param="items",
        )
    body = validate(ConversationBody, {} if document is None else document)
    session_id = ids.new_conversation_id()
    fields = {"metadata": orjson.dumps(body.metadata).decode()} if body.metadata else {}
    await edge.engine.storage.create(principal.id, session_id, fields)
    return Json(conversation_resource(await edge.engine.history.existing(principal.id, session_id)))


@both(router, "GET", "/v1/conversations/{conversation_id}", "One conversation")
@says(_CONVERSATION, *OF_SESSION)
async def retrieve(request: Request, conversation_id: str) -> Response:
    edge, principal = await admitted(request)
    return Json(conversation_resource(await edge.engine.history.existing(principal.id, conversation_id)))


@both(router, "POST", "/v1/conversations/{conversation_id}", "Change its metadata")
@says(
    _CONVERSATION,
    *OF_SESSION,
    "storage_full",
    body=ConversationPatch,
    body_examples=examples.CONVERSATION_BODIES,
)
async def update(request: Request, conversation_id: str) -> Response:
    edge, principal = await admitted(request)
    body = validate(ConversationPatch, await bodies.read_json(request))
    session = await edge.engine.history.existing(principal.id, conversation_id)
    fields = {"metadata": orjson.dumps(body.metadata).decode() if body.metadata else ""}
    if not await edge.engine.storage.update(principal.id, session, fields):
        raise session_not_found()
    return Json(conversation_resource(await edge.engine.history.existing(principal.id, conversation_id)))


@both(router, "DELETE", "/v1/conversations/{conversation_id}", "Delete it; a running response is stopped")
@says(DELETED, *OF_SESSION, "turn_in_progress")
async def delete(request: Request, conversation_id: str) -> Response:
    edge, principal = await admitted(request)
    ids.check_session_id(conversation_id)
    await edge.engine.delete(principal.id, conversation_id)
    return Json({"id": conversation_id, "object": "conversation.deleted", "deleted": True})


@both(router, "GET", "/v1/conversations/{conversation_id}/items", "Its items, newest first")
@says(ITEMS, *OF_SESSION, "not_found", parameters=ITEM_PAGE)
async def list_items(request: Request, conversation_id: str) -> Response:
    edge, principal = await admitted(request)
    history = edge.engine.history
    limit, descending = page_size(request), newest_first(request)
    await edge.engine.history.existing(principal.id, conversation_id)
    after = request.query_params.get("after")
    place = None
    if after is not None:
        message_id = message_id_of(conversation_id, after)
        place = await history.place(principal.id, conversation_id, message_id)
        if place is None:
            raise item_not_found("after")
        place += 1 if descending else -1  # the message itself may have more items than the one that was seen
    # One more than asked: the first may have been seen.
    page, following = await history.messages(
        principal.id, conversation_id, limit + 1, place, newest_first=descending
    )
    items: list[dict[str, Any]] = []
    for message in page:
        of_message = stored_items(conversation_id, message)
        items += of_message[::-1] if descending else of_message
    return Json(listed(items, after=after, limit=limit, more=following is not None))


@both(router, "GET", "/v1/conversations/{conversation_id}/items/{item_id}", "One item")
@says(plain("Item", examples.ITEM, "The item"), *OF_SESSION, "not_found")
async def get_item(request: Request, conversation_id: str, item_id: str) -> Response:
    edge, principal = await admitted(request)
    await edge.engine.history.existing(principal.id, conversation_id)
    message = await edge.engine.history.message(
        principal.id, conversation_id, message_id_of(conversation_id, item_id)
    )
    for item in stored_items(conversation_id, message) if message is not None else ():
        if item["id"] == item_id:
            return Json(item)
    raise item_not_found()
