"""Turns in the store without a worker: begun, written to and ended by the calls that workers make."""

from __future__ import annotations

from typing import Any

from service import events
from service.store.log import Append
from service.store.store import Store
from service.store.turn_records import Begin, Begun, Seal, Turn, TurnRef

PRINCIPAL = "p"
SESSION = "s"


def ref(turn_id: str, session: str = SESSION) -> TurnRef:
    return TurnRef(PRINCIPAL, session, turn_id)


class Hands:
    """What a worker does to turns, one step at a time; `worker` is who it says it is."""

    def __init__(self, store: Store, worker: str = "host:1") -> None:
        self.store = store
        self.worker = worker

    async def try_begin(self, turn_id: str, **wanted: Any) -> Begun:
        values: dict[str, Any] = {
            "ref": ref(turn_id),
            "mode": "append",
            "message_id": f"m_{turn_id}",
            "message": b'{"role":"user","content":"question"}',
            "fields": {"model": "m"},
            "started": events.structured(events.STARTED, {"turn_id": turn_id, "model": "m", "created": 1}),
            "defaults": {},
        }
        return await self.store.turns.begin(Begin(**{**values, **wanted}), self.worker)

    async def begin(self, turn_id: str, **wanted: Any) -> Turn:
        assert (await self.try_begin(turn_id, **wanted)).outcome == "BEGUN"
        return await self.get(turn_id)

    async def get(self, turn_id: str) -> Turn:
        turn = await self.store.turns.get(ref(turn_id))
        assert turn is not None
        return turn

    async def append(self, turn: Turn, first: int, *texts: str) -> Any:
        names = self.store.log.names(turn.ref)
        wanted = Append(names, turn.epoch, turn.claim, first, [events.delta(text) for text in texts])
        return (await self.store.log.append([wanted]))[0]

    async def complete(self, turn: Turn, first: int, *, state: str = "completed", **more: Any) -> Any:
        """Seal it with an answer; returns what came of it."""
        name = {"completed": events.COMPLETED, "stopped": events.STOPPED, "failed": events.FAILED}[state]
        last = events.structured(name, {"finish_reason": "stop"})
        answer = b'{"role":"assistant","content":"answer"}'
        fields = {"usage": b'{"prompt_tokens":3,"completion_tokens":4}'}
        seal = Seal(state, first, [last], fields, f"a_{turn.ref.turn_id}", answer, **more)
        return await self.store.turns.seal(turn, seal)

    async def texts(self, turn_id: str) -> list[tuple[int, bytes]]:
        return [(event.id, event.payload) for event in await self.store.log.read_all(ref(turn_id))]
