"""Responses and their items, made of what is stored."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from fastapi import Request

from service import ids, parts
from service.api import bodies, examples
from service.api.operation import plain
from service.dialects.errors import from_event
from service.dialects.responses import Items
from service.dialects.responses_object import (
    Ending,
    Head,
    Kind,
    call_item,
    message_item,
    named,
    output_item,
    public_id,
    reasoning_item,
    shows_reasoning,
)
from service.engine.chains import is_response
from service.engine.engine import Engine
from service.errors import ServiceError
from service.parts import Part
from service.store.messages import Message
from service.store.turn_records import Turn, TurnRef

# Items per page: unless asked, and at most, as at OpenAI.
_PAGE: Final = 20
_TOP: Final = 100

# The id of a message that we have made: an answer, whose items have numbers in their ids.
_OWN_ID: Final = re.compile(r"m_[0-9a-z]{26}")

ITEMS: Final = plain("Items", examples.ITEMS, "A page")
ITEM_PAGE: Final = ("limit_items", "after_item", "order_items")
DELETED: Final = plain("Deleted", examples.DELETED, "Deleted")


def stored_items(session_id: str, message: Message, turn_id: str | None = None) -> list[dict[str, Any]]:
    """A message of a session as items. Items of an answer have the ids that they had in its stream.

    All ids of an answer name one turn: `turn_id`, or the first that wrote it. Numbers begin in the last round
    and go on in the earlier ones; where no turn wrote the message they follow the order.
    """
    return [item for item, _ in placed_items(session_id, message, message.whole, turn_id)]


def placed_items(
    session_id: str, message: Message, whole: list[Part], turn_id: str | None = None
) -> list[tuple[dict[str, Any], list[Part]]]:
    """The items, each with the parts of the message that it is made of."""
    status = "completed" if message.state == "completed" else "incomplete"
    if message.role != "assistant" or not _OWN_ID.fullmatch(message.id):
        item = message_item(f"msg_{message.id}", message.role, message.content, status)
        if message.role == "user" and message.parts:
            item["content"] = [_shown(session_id, part) for part in message.parts]
        return [(item, whole)]
    turn_id = turn_id or ids.turn_id_of(message.id)
    rounds = parts.rounds(whole) or [[]]
    numbers: dict[Kind, int] = {}
    places = [*range(len(rounds))] if not message.turn_id else [len(rounds) - 1, *range(len(rounds) - 1)]
    found = {}
    for place in places:
        of_round = status if place == len(rounds) - 1 else "completed"
        found[place] = _round(session_id, turn_id, rounds[place], of_round, numbers)
    return [one for place in sorted(found) for one in found[place]]


def _shown(session_id: str, part: Part) -> dict[str, Any]:
    """A part of a user's message. A stored image has an address of ours, which an input may send back."""
    if part["type"] != parts.IMAGE:
        return {"type": "input_text", "text": part["text"]}
    url = part["url"] if "url" in part else f"/v1/sessions/{session_id}/images/{part['ref']}"
    return {"type": "input_image", "detail": "auto", "file_id": None, "image_url": url}


def _round(
    session_id: str, turn_id: str, said: list[Part], status: str, numbers: dict[Kind, int]
) -> list[tuple[dict[str, Any], list[Part]]]:
    """The items of one round. `numbers` counts the items of each kind so far."""

    def item_id(kind: Kind) -> str:
        number = numbers.get(kind, 0)
        numbers[kind] = number + 1
        return public_id(kind, session_id, turn_id, number)

    items: list[tuple[dict[str, Any], list[Part]]] = []
    words = [part for part in said if part["type"] not in (parts.RESULT, parts.CALL)]
    calls = [part for part in said if part["type"] == parts.CALL]
    text = parts.text_of(words)
    if text or not calls:
        items.append((message_item(item_id("msg"), "assistant", text, status), words))
    for call in calls:
        # A call comes with its result: a model is told of both or of neither.
        of_call = [part for part in said if part is call or part.get("tool_call_id") == call["id"]]
        items.append((call_item(item_id("fc"), parts.chat_call(call), status), of_call))
    results = [part for part in said if part["type"] == parts.RESULT]
    return items + [(output_item(item_id("fco"), part), [part]) for part in results]


def response_not_found() -> ServiceError:
    return ServiceError("response_not_found", "There is no such response.")


def ref_of(principal: str, response_id: str) -> TurnRef:
    """Raises response_not_found."""
    found = named(response_id)
    if found is None or found.kind != "resp" or not ids.is_session_id(found.session_id):
        raise response_not_found()
    return TurnRef(principal, found.session_id, found.turn_id)


async def response_turn(engine: Engine, ref: TurnRef) -> Turn:
    """The turn of a response. Its session is kept from now on. Raises response_not_found."""
    turn = await engine.history.find_turn(ref)
    if turn is None or not is_response(turn):
        raise response_not_found()
    await engine.history.session(ref.principal, ref.session_id)
    return turn


async def response_object(engine: Engine, turn: Turn) -> dict[str, Any]:
    """The response as it is now: made of its log, or of its message where the log has expired.

    Raises response_not_found where both are gone.
    """
    ref = turn.ref
    log, answer = await asyncio.gather(
        engine.history.events(ref),
        engine.history.message(ref.principal, ref.session_id, turn.answer_id),
    )
    if log and log[-1].terminal and not turn.sealed:  # it has ended meanwhile
        turn = await engine.turn(ref)
    ending = Ending.of(turn.state, turn.finish_reason, from_event(turn.error) if turn.error else None)
    usage = turn.usage if turn.sealed else None
    at = answer.created // 1000 if answer is not None and ending.status == "completed" else None
    if log:
        items = Items(turn.response)
        for event in log:
            if items.goes_on(event) is None:
                items.take(event)
        if turn.sealed and log[-1].terminal:  # this turn's end: later turns may have gone on with the answer
            at = items.ended(log[-1].data, ending)["completed_at"] or at
        return items.object(ending, usage, at)
    if answer is None and turn.state == "completed":
        raise response_not_found()
    head = Head(ref.session_id, ref.turn_id, turn.created, turn.model, turn.response)
    return head.object(ending, _output(head, answer, ending) if answer is not None else [], usage, at)


def _output(head: Head, answer: Message, ending: Ending) -> list[dict[str, Any]]:
    """The items of an answer whose log is gone. Only the last one may have been cut."""
    output: list[dict[str, Any]] = []
    said = (parts.rounds(answer.whole) or [[]])[-1] if answer.turn_id == head.turn_id else []
    thoughts, text = parts.reasoning_of(said), parts.text_of(said)
    if thoughts and shows_reasoning(head.echo):
        output.append(reasoning_item(head.item_id("rs"), thoughts))
    if text:
        output.append(message_item(head.item_id("msg"), "assistant", text))
    calls = [part for part in said if part["type"] == parts.CALL]
    output += [call_item(head.item_id("fc", i), parts.chat_call(call)) for i, call in enumerate(calls)]
    for item in output[-1:]:
        item["status"] = ending.item_status
    return output


def message_id_of(session_id: str, item_id: str) -> str:
    """The message of a session that an item is, or is part of."""
    found = named(item_id)
    if found is not None and found.session_id == session_id:
        return ids.answer_id(found.turn_id)
    return item_id.removeprefix("msg_")


def item_not_found(where: str | None = None) -> ServiceError:
    return ServiceError("not_found", "There is no such item.", param=where)


def page_size(request: Request) -> int:
    """Raises invalid_request."""
    return bodies.limit(request, _PAGE, _TOP)


def listed(
    items: list[dict[str, Any]], *, after: str | None, limit: int, more: bool = False
) -> dict[str, Any]:
    """A page of what follows the item `after`; `more`: other items follow these."""
    if after is not None:
        places = [i for i, item in enumerate(items) if item["id"] == after]
        if not places:
            raise item_not_found("after")
        items = items[places[0] + 1 :]
    page = items[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": more or len(items) > limit,
    }
