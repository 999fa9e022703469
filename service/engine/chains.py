"""Chains: where a response that goes on from an earlier one belongs.

What goes on from the newest answer of a session is appended to it; from an older one, it begins a new
session with a copy of what was said up to there. Questions that were not answered are not copied, as
they are left out of contexts. Reads only: what begins is beginning.py's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from service import ids, parts
from service.errors import ServiceError
from service.store.messages import Message
from service.store.store import Store
from service.store.turn_records import Turn, TurnRef

# Messages that a new session may begin with: they are stored by one script, 3 us each.
_MOST_COPIED: Final = 1_000
_PAGE: Final = 500
# Newest messages per look for the newest answer: before it are only questions whose answers failed.
_LOOK: Final = 8


@dataclass(slots=True)
class Destination:
    """The session to send to, and what it begins with where it is new: a copy of what `source` says."""

    session_id: str
    seeds: list[dict[str, Any]] = field(default_factory=list)
    system: str | None = None
    source: str = ""


async def base_of(store: Store, ref: TurnRef, key: str | None, *, answering: bool) -> Destination:
    """Where to send what goes on from a turn. `key` is the send's idempotency key.

    `answering`: it is outputs of the function calls. Raises previous_response_not_found, invalid_request.
    """
    turn = await store.turns.get(ref)
    session = await store.sessions.get(ref.principal, ref.session_id)
    if turn is None or session is None or not is_response(turn):
        raise previous_not_found()
    if not turn.sealed:
        return Destination(ref.session_id)  # which is busy, and says so
    answer_id = turn.answer_id
    answer = await store.sessions.message(ref.principal, ref.session_id, answer_id)
    if answer is None:
        raise _invalid("The previous response has no answer to go on from; use the one before it.")
    waiting = parts.open_calls(answer.whole)
    if waiting and not answering:
        sentence = f"There is no output for the function call {waiting[0]['id']:.100}."
        raise ServiceError("invalid_request", sentence, param="input")
    newest = await _newest_answer(store, ref)
    if newest == answer_id:
        return Destination(ref.session_id)
    # In this order: whoever was not the newest any more may have been answered by this very send.
    if key is not None and await store.turns.known(ref.principal, ref.session_id, key) is not None:
        return Destination(ref.session_id)
    if answering:
        raise _invalid("Newer responses follow this one; send outputs to the newest.")
    seeds = await _copy(store, ref, answer_id)
    session_id = ids.derived_session_id(ref.principal, key) if key else ids.new_session_id()
    return Destination(session_id, seeds, session.system_prompt, ref.session_id)


def is_response(turn: Turn) -> bool:
    """May a turn be named as a response? Not where its request forbade to store it, nor after a delete."""
    return bool(turn.response.get("store", True))


def previous_not_found() -> ServiceError:
    return ServiceError(
        "previous_response_not_found",
        "There is no response of this id to go on from.",
        param="previous_response_id",
    )


def _invalid(sentence: str) -> ServiceError:
    return ServiceError("invalid_request", sentence, param="previous_response_id")


async def _newest_answer(store: Store, ref: TurnRef) -> str | None:
    place: int | None = None
    while True:
        page, place = await store.sessions.messages(
            ref.principal, ref.session_id, _LOOK, place, newest_first=True
        )
        answers = [message.id for message in page if message.role == "assistant"]
        if answers or place is None:
            return answers[0] if answers else None


async def _copy(store: Store, ref: TurnRef, answer_id: str) -> list[dict[str, Any]]:
    """What was said up to an answer, and it."""
    said: list[Message] = []
    place: int | None = None
    while True:
        page, place = await store.sessions.messages(ref.principal, ref.session_id, _PAGE, place)
        said += page
        ends = [i for i, message in enumerate(said) if message.id == answer_id]
        if ends:
            said = said[: ends[0] + 1]
            break
        if place is None or len(said) > _MOST_COPIED:
            break
    if not ends or len(said) > _MOST_COPIED:
        raise _invalid(
            "Newer responses follow this one, and no copy is made of a conversation that was edited or has "
            f"more than {_MOST_COPIED} messages; go on from its newest response."
        )
    following = [*(message.role for message in said[1:]), ""]
    return [
        {"role": message.role, "content": message.content, "parts": message.parts}
        for message, after in zip(said, following, strict=True)
        if (message.content or message.parts)
        and (message.role == "assistant" or not message.turn_id or after == "assistant")
    ]
