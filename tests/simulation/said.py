"""What is said in sessions: the history is what was sent and logged, and a model is told just that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from service.engine.context import DEFAULT_SYSTEM_PROMPT
from tests.simulation.seen import Asked, text_of

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle


class Said:
    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle

    def history(self, session: bytes) -> None:
        """A session's messages are what was sent and what was logged."""
        oracle = self._oracle
        base = session[: session.rindex(b":session")]
        order, bodies = oracle.redis.value(base + b":order"), oracle.redis.hash(base + b":messages")
        bodies = {name: body for name, body in bodies.items() if name[:1] != b"\x01"}  # earlier versions
        ids = list(order) if order is not None else []
        if any(one not in bodies for one in ids):
            oracle.broken("a history names a message that is not there", session)
            return
        stored = [(body["role"], body["content"]) for body in (orjson.loads(bodies[one]) for one in ids)]
        wanted: list[tuple[str, str]] = []
        for one in oracle.kept.sessions.get(session, ()):
            wanted.append(("user", one.content))
            if one.answer is not None:
                wanted.append(("assistant", one.answer))
        if stored != wanted:
            oracle.broken("the history is not what was said", session, stored, wanted)
        if len(bodies) != len(ids):
            oracle.broken("messages are left that no history has", session)

    def told(self, turn_id: str, messages: list[dict[str, Any]]) -> None:
        """A model is asked: with the system prompt, what was said and answered before, and the question."""
        oracle = self._oracle
        found = self._asked(turn_id)
        if found is None or oracle.losses:
            return
        before, asked = found
        wanted = [("system", DEFAULT_SYSTEM_PROMPT)]
        for one in before:
            if one.answer:
                wanted += [("user", one.content), ("assistant", one.answer)]
        wanted.append(("user", asked.content))
        given = [(message["role"], message["content"]) for message in messages]
        if given[: len(wanted)] != wanted or len(given) > len(wanted) + 1:
            oracle.broken("a model is not told what was said", turn_id, given, wanted)
        for role, text in given[len(wanted) :]:  # the beginning of its own answer, to go on with
            if role != "assistant" or text != text_of(oracle.log_of(turn_id)):
                oracle.broken("a model goes on with what was not said", turn_id, role, text)

    def _asked(self, turn_id: str) -> tuple[list[Asked], Asked] | None:
        """What was said before the question of a turn, and it; None where an edit or a delete dropped it."""
        for said in self._oracle.kept.sessions.values():
            for place, one in enumerate(said):
                if one.turn == turn_id:
                    return said[:place], one
        return None
