"""OpenAI's Conversations: our sessions by another name, with their messages as items.

Any session of the caller is a conversation; one that is made here has an id that begins with `conv_`. Its
items come from responses, or are added here. Outputs of function calls go to the answer that made the calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import Field

from service import ids, parts
from service.api import bodies, examples, uploads
from service.api.answers import Json
from service.api.edge import admitted
from service.api.item_references import resolved
from service.api.operation import ADDS_ITEMS, OF_SESSION, documented, plain
from service.api.responses_resource import (
    DELETED,
    ITEM_PAGE,
    ITEMS,
    item_not_found,
    listed,
    message_id_of,
    page_size,
    placed_items,
    stored_items,
)
from service.api.routes.openai import both
from service.dialects.base import Body, validate
from service.dialects.responses_request import Item, Metadata, chat_of, check_include, input_items
from service.engine import amending
from service.engine.history import mismatch, session_not_found
from service.engine.sends import fingerprint_of
from service.errors import ServiceError
from service.parts import Chat, Part
from service.store.messages import Message, Session

router = APIRouter(tags=["openai"])

# Items of a call, as at OpenAI.
_MOST_ITEMS: Final = 20

_CONVERSATION: Final = plain("Conversation", examples.CONVERSATION, "The conversation")


class ConversationBody(Body):
    """`POST /v1/conversations`"""

    items: Annotated[list[dict[str, Any]], Field(max_length=_MOST_ITEMS)] | None = None
    metadata: Metadata | None = None


class ConversationPatch(Body):
    """`POST /v1/conversations/{c}`"""

    metadata: Metadata | None


class ItemsBody(Body):
    """`POST /v1/conversations/{c}/items`"""

    items: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=_MOST_ITEMS)]


def conversation_resource(session: Session) -> dict[str, Any]:
    metadata = orjson.loads(session.metadata) if session.metadata else {}
    return {
        "id": session.id,
        "object": "conversation",
        "created_at": session.created // 1000,
        "metadata": metadata,
    }


@both(router, "POST", "/v1/conversations", "Make a conversation")
@documented(
    _CONVERSATION,
    *ADDS_ITEMS,
    parameters=("Repeat-Key",),
    body=ConversationBody,
    body_required=False,
)
async def create(request: Request) -> Response:
    edge, principal = await admitted(request, "sends")  # it fills the store as a send does
    engine, key = edge.engine, bodies.idempotency_key(request)
    document, images = await uploads.read(request)
    body = validate(ConversationBody, {} if document is None else document)
    items = await resolved(engine, principal.id, input_items(body.items, "items"), None)
    following = _following(items)
    following(())  # raises for wrong items before anything is made
    asked = fingerprint_of(["conversations", body.items or [], body.metadata or {}])
    fields = {"asked": asked} if key is not None else {}
    if body.metadata:
        fields["metadata"] = orjson.dumps(body.metadata).decode()
    session_id = ids.conversation_id(principal.id, key)
    async with amending.once(engine, principal.id, None, key, asked):
        made = await engine.storage.create(principal.id, session_id, fields)
        if not made and (await engine.history.existing(principal.id, session_id)).asked != asked:
            raise mismatch()
        # If an earlier call has made the conversation and then died, this repeat adds the items.
        if items and (made or not await engine.history.count(principal.id, session_id)):
            try:
                await amending.add(engine, principal.id, session_id, following, images, key, asked)
            except ServiceError:
                await engine.delete(principal.id, session_id)
                raise
    return Json(conversation_resource(await engine.history.existing(principal.id, session_id)))


@both(router, "GET", "/v1/conversations/{conversation_id}", "One conversation")
@documented(_CONVERSATION, *OF_SESSION)
async def retrieve(request: Request, conversation_id: str) -> Response:
    edge, principal = await admitted(request)
    return Json(conversation_resource(await edge.engine.history.existing(principal.id, conversation_id)))


@both(router, "POST", "/v1/conversations/{conversation_id}", "Change its metadata")
@documented(
    _CONVERSATION,
    *OF_SESSION,
    "storage_full",
    body=ConversationPatch,
)
async def update(request: Request, conversation_id: str) -> Response:
    edge, principal = await admitted(request)
    body = await bodies.read(request, ConversationPatch)
    session = await edge.engine.history.existing(principal.id, conversation_id)
    fields = {"metadata": orjson.dumps(body.metadata).decode() if body.metadata else ""}
    if not await edge.engine.storage.update(principal.id, session, fields):
        raise session_not_found()
    return Json(conversation_resource(await edge.engine.history.existing(principal.id, conversation_id)))


@both(router, "DELETE", "/v1/conversations/{conversation_id}", "Delete it; a running response is stopped")
@documented(DELETED, *OF_SESSION, "turn_in_progress")
async def delete(request: Request, conversation_id: str) -> Response:
    edge, principal = await admitted(request)
    ids.check_session_id(conversation_id)
    await edge.engine.delete(principal.id, conversation_id)
    return Json({"id": conversation_id, "object": "conversation.deleted", "deleted": True})


@both(
    router,
    "POST",
    "/v1/conversations/{conversation_id}/items",
    "Add items to it",
    "Behind all that it has, as later responses in it are told. Reasoning is passed over.",
)
@documented(
    ITEMS,
    *OF_SESSION,
    *ADDS_ITEMS,
    parameters=("include_items", "Repeat-Key"),
    body=ItemsBody,
)
async def add_items(request: Request, conversation_id: str) -> Response:
    edge, principal = await admitted(request, "sends")  # it fills the store as a send does
    _check_include(request)
    engine, key = edge.engine, bodies.idempotency_key(request)
    document, images = await uploads.read(request)
    body = validate(ItemsBody, document)
    await engine.history.existing(principal.id, conversation_id)
    items = await resolved(engine, principal.id, input_items(body.items, "items"), conversation_id)
    asked = fingerprint_of(["items", body.items])
    found = await amending.add(engine, principal.id, conversation_id, _following(items), images, key, asked)
    added = [item for message in found.now for item in stored_items(conversation_id, message)]
    if found.before is not None:
        added = added[len(stored_items(conversation_id, found.before)) :]
    return Json(listed(added, after=None, limit=len(added)))


@both(router, "GET", "/v1/conversations/{conversation_id}/items", "Its items, newest first")
@documented(
    ITEMS,
    *OF_SESSION,
    "not_found",
    "unsupported_parameter",
    parameters=(*ITEM_PAGE, "include_items"),
)
async def list_items(request: Request, conversation_id: str) -> Response:
    edge, principal = await admitted(request)
    _check_include(request)
    history = edge.engine.history
    limit, descending = page_size(request), bodies.newest_first(request, "desc")
    await edge.engine.history.existing(principal.id, conversation_id)
    after = request.query_params.get("after")
    place = None
    if after is not None:
        message_id = message_id_of(conversation_id, after)
        place = await history.place(principal.id, conversation_id, message_id)
        if place is None:
            raise item_not_found("after")
        place += 1 if descending else -1  # once more from this message: it may have items that were not seen
    # One message more than asked for: the first may have no new items.
    page, following = await history.messages(
        principal.id, conversation_id, limit + 1, place, newest_first=descending
    )
    items: list[dict[str, Any]] = []
    for message in page:
        of_message = stored_items(conversation_id, message)
        items += of_message[::-1] if descending else of_message
    return Json(listed(items, after=after, limit=limit, more=following is not None))


@both(router, "GET", "/v1/conversations/{conversation_id}/items/{item_id:path}", "One item")
@documented(
    plain("Item", examples.ITEM, "The item"),
    *OF_SESSION,
    "not_found",
    "unsupported_parameter",
    parameters=("include_items",),
)
async def get_item(request: Request, conversation_id: str, item_id: str) -> Response:
    edge, principal = await admitted(request)
    _check_include(request)
    await edge.engine.history.existing(principal.id, conversation_id)
    message = await edge.engine.history.message(
        principal.id, conversation_id, message_id_of(conversation_id, item_id)
    )
    for item in stored_items(conversation_id, message) if message is not None else ():
        if item["id"] == item_id:
            return Json(item)
    raise item_not_found()


@both(
    router,
    "DELETE",
    "/v1/conversations/{conversation_id}/items/{item_id:path}",
    "Take an item out of it",
    "With a function call goes its output. Answers the conversation.",
)
@documented(_CONVERSATION, *OF_SESSION, "not_found", "turn_in_progress")
async def delete_item(request: Request, conversation_id: str, item_id: str) -> Response:
    edge, principal = await admitted(request)
    session = await edge.engine.history.existing(principal.id, conversation_id)
    message_id = message_id_of(conversation_id, item_id)
    rest = _without(conversation_id, item_id)
    await amending.remove(edge.engine, principal.id, conversation_id, message_id, rest)
    return Json(conversation_resource(session))


def _check_include(request: Request) -> None:
    """Raises unsupported_parameter."""
    query = request.query_params
    check_include([*query.getlist("include"), *query.getlist("include[]")])


def _following(items: list[Item]) -> Callable[[Sequence[Part]], list[Chat]]:
    """Makes the items into messages behind an answer: outputs may belong to its calls."""

    def following(before: Sequence[Part]) -> list[Chat]:
        return chat_of(items, [call["id"] for call in parts.open_calls(before)])

    return following


def _without(session_id: str, item_id: str) -> Callable[[Message], list[Part]]:
    """Removes an item from a message: the parts that are left. Raises not_found."""

    def rest(message: Message) -> list[Part]:
        whole = message.whole
        for item, made_of in placed_items(session_id, message, whole):
            if item["id"] == item_id:
                return [part for part in whole if not any(part is one for one in made_of)]
        raise item_not_found()

    return rest
