"""References in an input are replaced by the items of the caller's sessions that they name."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from service.api.responses_resource import item_not_found, message_id_of, stored_items
from service.dialects.responses_object import named
from service.dialects.responses_request import Item, input_items
from service.engine.chains import is_response
from service.engine.engine import Engine
from service.errors import ServiceError
from service.store.turn_records import TurnRef

# References in an input: each takes two reads.
_MOST_NAMED: Final = 500


async def resolved(engine: Engine, principal: str, given: list[Item], session_id: str | None) -> list[Item]:
    """The items, with references replaced by what they name, without items that the session has already.

    Raises not_found, invalid_request.
    """
    wanted = [item for item in given if item.id and (item.kind == "reference" or session_id)]
    if len(wanted) > _MOST_NAMED:
        raise ServiceError(
            "invalid_request", f"The input names more than {_MOST_NAMED} items.", param="input"
        )
    known = await asyncio.gather(*(_known(engine, principal, item, session_id) for item in wanted))
    found = dict(zip([item.place for item in wanted], known, strict=True))
    items: list[Item] = []
    for item in given:
        if item.place not in found or (found[item.place] is None and item.kind != "reference"):
            items.append(item)
        elif (kept := found[item.place]) is None:
            raise item_not_found(f"{item.where}.id")
        else:
            items += kept
    return items


async def _known(engine: Engine, principal: str, item: Item, session_id: str | None) -> list[Item] | None:
    """The items that an id names: [] where the session has it already, None where there is no such item."""
    name = named(item.id)
    where = name.session_id if name is not None else session_id
    if where is None or (item.kind != "reference" and where != session_id):
        return None
    turn = (
        await engine.history.find_turn(TurnRef(principal, where, name.turn_id)) if name is not None else None
    )
    message_id = turn.answer_id if turn is not None else message_id_of(where, item.id)
    message = await engine.history.message(principal, where, message_id)
    if name is not None and name.kind == "rs":
        return []
    if message is None:
        return None
    if where == session_id:
        return []
    assert name is not None
    if turn is not None and not is_response(turn):
        return None
    for stored in stored_items(where, message, name.turn_id):
        if stored["id"] == item.id:
            [found] = input_items([stored])
            text = message.content if found.kind == "message" else found.text
            return [replace(found, place=item.place, id="", text=text)]
    return None
