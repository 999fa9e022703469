"""Chains: where a response that goes on from an earlier one belongs.

A response that goes on from the newest answer of a session is appended to the session; from an older one it
begins a new session, with a copy of the messages up to that. Questions without an answer are not copied,
since contexts leave them out too. Reads only: what begins is beginning.py's.
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
# Messages that are read at a time to find the newest answer: behind it are only questions whose answers
# failed.
_LOOK: Final = 8


@dataclass(slots=True)
class Destination:
    """The session to send to. If it is new, it begins with `seeds`, copied from the session `source`."""

    session_id: str
    seeds: list[dict[str, Any]] = field(default_factory=list)
    system: str | None = None
    source: str = ""


async def base_of(store: Store, ref: TurnRef, key: str | None, *, answering: bool) -> Destination:
    """Where a response belongs that goes on from a turn. `key` is the send's idempotency key.

    `answering`: its input are outputs of the function calls. Raises previous_response_not_found,
    invalid_request.
    """
    turn = await store.turns.get(ref)
    session = await store.sessions.get(ref.principal, ref.session_id)
    if turn is None or session is None or not is_response(turn):
        raise previous_not_found()
    if not turn.sealed:
        return Destination(ref.session_id)  # busy: the begin refuses
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
    # Asked after that: an earlier try of this very send may have made the newer answer.
    if key is not None and await store.turns.known(ref.principal, ref.session_id, key) is not None:
        return Destination(ref.session_id)
    if answering:
        raise _invalid("Newer responses follow this one; send outputs to the newest.")
    seeds = await _copy(store, ref, answer_id)
    session_id = ids.derived_session_id(ref.principal, key) if key else ids.new_session_id()
    return Destination(session_id, seeds, session.system_prompt, ref.session_id)


def is_response(turn: Turn) -> bool:
    """Can a turn be found as a response? Not if its request had store=false, nor after a delete."""
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
    """The messages of a session up to an answer, with the answer."""
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
