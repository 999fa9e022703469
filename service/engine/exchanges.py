"""Exchanges: answers that a turn goes on with, because it brings results of tools or the answer was cut.

All that answers one question is one message (docs/decisions/0021). A send that goes on with it is only for
the newest answer of its session: begin.lua refuses one that is not the newest by then. Reads only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from service import parts
from service.engine.sends import Base, Send
from service.errors import ServiceError
from service.parts import Part
from service.store.messages import Message, Said
from service.store.send_admission import SessionSnapshot
from service.store.sessions import Sessions
from service.store.store import Store
from service.store.turn_records import Turn, TurnRef

# Reasons for which a model ends before its answer does.
_CUT: Final = ("length", "content_filter")
# Bytes of an exchange that can go on: as many as a body may have. Each round reads and writes the whole
# message, which takes 5 ms of the event loop at this size.
MOST_BYTES: Final = 1_048_576
# Newest messages among which begin.lua looks for the question that is answered anew.
_NEWEST: Final = 8
# Newest turns of a session among which that of an earlier round is looked for: a round each.
_LOOK: Final = 64


async def find_base(store: Store, send: Send, session_id: str, active: str | None) -> str:
    """Find the base of a send that goes on with an answer. `active` is the turn that runs in its session.

    Returns the turn that was sent the same before, which is to be read instead, or ''. Without a base, a send
    with the whole exchange in it (`content`, `prior`) is appended; others raise turn_in_progress for a busy
    session, else invalid_request.
    """
    send.fingerprint()  # made now: the base changes the send
    named = send.session_id is not None
    sessions = store.sessions
    newest = await _newest(sessions, send.principal, session_id) if named else None
    for turn_id in (active, newest[0].turn_id if newest else None) if send.results else ():
        ref = TurnRef(send.principal, session_id, turn_id or "")
        if turn_id and await answers(store, ref, send):
            return turn_id
    before = None
    if newest is not None:
        answer, question = newest
        before = parts.with_results(answer.whole, send.results) if send.results else _cut(answer)
        told_before = bool(send.results and before and before == answer.whole[: len(before)])
        if told_before and (known := await _of_earlier_round(store, send, session_id, answer.id)):
            return known
    if newest is not None and before is not None:
        _check_all_answered(before)
        if (size := parts.size_of(before)) > MOST_BYTES:
            raise ServiceError(
                "context_too_long",
                f"The answer has {size} bytes with its rounds of tools, of {MOST_BYTES}; ask anew.",
            )
        place = await sessions.place(send.principal, session_id, answer.id) or 0
        send.base = Base(answer, question, before, place)
        send.message_id, send.must_exist = answer.id, True
    elif send.base is not None:
        raise gone_on_meanwhile()
    elif send.content:
        send.mode = "append"
    elif active:
        raise ServiceError("turn_in_progress", "The session is answering already.", retry_after=1)
    elif send.results:
        raise no_results_of_newest()
    else:
        raise ServiceError("invalid_request", "The session's newest answer was not cut: it has no rest.")
    return ""


async def asked_again(store: Store, send: Send, session_id: str, seen: SessionSnapshot) -> Sequence[Part]:
    """The parts of the stored question that a send has answered again, or goes on with."""
    if send.base is not None:
        return send.base.question.parts
    if send.mode != "regenerate" or send.content or send.parts or seen.session is None:
        return ()
    if send.message_id:
        message = await store.sessions.message(send.principal, session_id, send.message_id)
        return message.parts if message is not None else ()
    said: Sequence[Said | Message] = seen.page.said if seen.page is not None else ()
    if not any(one.role == "user" for one in said):
        said = await store.sessions.newest(send.principal, session_id, _NEWEST)
    return next((one.parts for one in said if one.role == "user"), ())


async def answers(store: Store, ref: TurnRef, send: Send) -> bool:
    """Does the turn answer, or has it answered, this very send of results, and is its log there?

    A client that has got no response sends them again. A failed or stopped turn has not answered them.
    """
    turn = await store.turns.get(ref)
    if turn is None or turn.sent != send.fingerprint() or turn.state in ("stopped", "failed"):
        return False
    return not turn.sealed or bool(await store.log.read(ref, 0, 1))


async def answered_meanwhile(store: Store, send: Send, session_id: str) -> str:
    """The turn that was sent the same results since a send has looked for one, or ''.

    It may have ended by then: the send has not met it as the turn that its session is busy with.
    """
    newest = await _newest(store.sessions, send.principal, session_id)
    if newest is None:
        return ""
    answer = newest[0]
    if await answers(store, TurnRef(send.principal, session_id, answer.turn_id), send):
        return answer.turn_id
    return await _of_earlier_round(store, send, session_id, answer.id)


async def _of_earlier_round(store: Store, send: Send, session_id: str, answer_id: str) -> str:
    """The turn that was sent the same results, if the answer still has what that turn said; else ''."""
    later = math.inf  # the earliest round that was answered since
    for turn in await store.turns.newest_of(send.principal, session_id, answer_id, _LOOK):
        if turn.sent == send.fingerprint() and turn.round < later:
            return turn.ref.turn_id if await answers(store, turn.ref, send) else ""
        if turn.sent:
            later = min(later, turn.round)
    return ""


def no_results_of_newest() -> ServiceError:
    return ServiceError("invalid_request", "These are no results of calls of the session's newest answer.")


def gone_on_meanwhile() -> ServiceError:
    return ServiceError(
        "turn_in_progress", "The session has gone on meanwhile; read its messages.", retryable=False
    )


async def said_before(sessions: Sessions, turn: Turn) -> list[Part]:
    """The parts of a turn's exchange before the turn."""
    if turn.before is None:
        turn.before = list(turn.params.get("prior", ()))
        if turn.goes_on:
            ref = turn.ref
            message = await sessions.message(ref.principal, ref.session_id, turn.goes_on)
            turn.before = message.whole if message is not None else []
    return turn.before


async def was_before(sessions: Sessions, turn: Turn, text: str) -> list[Part]:
    """The same for a turn that may have ended; `text` is what it has said."""
    message = await sessions.message(turn.ref.principal, turn.ref.session_id, turn.goes_on)
    if message is None or message.turn_id != turn.ref.turn_id:
        return message.whole if message is not None else []
    return parts.ended_before(message.whole, text)


async def _newest(sessions: Sessions, principal: str, session_id: str) -> tuple[Message, Message] | None:
    """The newest answer and its question, where no question comes after it."""
    page = await sessions.newest(principal, session_id, 2)
    if [message.role for message in page] != ["assistant", "user"]:
        return None
    return page[0], page[1]


def _cut(answer: Message) -> list[Part] | None:
    """The parts of an answer that was cut; None where it was not."""
    if answer.state == "completed" and answer.finish_reason not in _CUT:
        return None
    return answer.whole


def _check_all_answered(before: list[Part]) -> None:
    if missing := parts.open_calls(before) if parts.has_results(before) else []:
        raise ServiceError(
            "invalid_request",
            f"The call {missing[0]['id']:.100} has no result; send those of all calls of the round.",
        )
