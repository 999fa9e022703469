"""One way in for every route that starts a turn.

The order: principal -> known to be over its limit? (refused before the body is read) -> body -> known
idempotency key? -> limits -> begin. A send that begins is charged as a send; whatever else becomes of it
(a repeat, a refusal) costs a read. What each gate decides belongs to limits.py, open_streams.py and the
engine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType

from fastapi import Request

from service import ids
from service.api import bodies
from service.api.auth.authenticator import Principal
from service.api.edge import edge_of, principal_of
from service.api.request_state import request_state
from service.api.turn_response import TurnResponse
from service.dialects.base import Encoder
from service.engine.sends import Attached, Send
from service.errors import ServiceError, StoreUnavailable
from service.store.turn_records import TurnRef


class Sending:
    """Around what a route does for a send: `async with Sending(request) as sending`.

    Entering finds the principal, and refuses one that is known to be over its limit. A ServiceError inside is
    charged as a refusal. `key_in_body`: the body may hold an idempotency key of its own.
    """

    principal: Principal
    _ends_with_reader = False  # nobody but the reader of this response can come back to the turn

    def __init__(self, request: Request, session_id: str | None = None, *, key_in_body: bool = False) -> None:
        self._request = request
        self._edge = edge_of(request)
        self._session_id = session_id
        self._key_in_body = key_in_body

    async def __aenter__(self) -> Sending:
        self.principal = await principal_of(self._request)
        self._read = self._edge.limits.charging(self._request, self.principal, "reads")
        # A send that asks the store twice is charged once.
        once = ids.new_claim()
        self._send = self._edge.limits.charging(self._request, self.principal, "sends", once=once)
        if self._send.known_over() is not None and not await self._may_repeat():
            self._send.refuse_known()
        return self

    async def _may_repeat(self) -> bool:
        """May a caller over its limit have this turn already? Asking is charged as a read."""
        small = 0 <= bodies.length(self._request) <= bodies.SMALL_BYTES
        key = bodies.idempotency_key(self._request)
        if key is None and not (self._key_in_body and small):
            return False
        await self._read.charge()
        if small:
            return True
        # A large body is read only if the headers lead to its turn; a session in the body is not seen.
        session_id = self._session_id or self._request.headers.get("x-session-id") or None
        if key is None or not (session_id is None or ids.is_session_id(session_id)):
            return False
        return await self._edge.engine.beginning.repeats.knows(self.principal.id, session_id, key)

    async def start(self, send: Send, *, reads: bool = True) -> Attached:
        """The turn to read, new or known. Raises what the gates and the engine raise.

        `reads` is False where the response will not be the turn's stream.
        """
        request, edge = self._request, self._edge
        if send.key is None:
            send.key = bodies.idempotency_key(request)
        # No client knows a key that a balancer has made: it is forgotten when the client leaves.
        made = send.key is None or send.key == bodies.fallback_key(request)
        self._ends_with_reader = made and send.session_id is None
        header = bodies.on_busy(request)
        if header is not None and not send.on_busy_asked:
            send.on_busy = header
        state = request_state(request)
        send.traceparent, send.request_id = state.traceparent, state.request_id
        send.own, send.hook = self.principal, self.principal.hook
        send.large = not 0 <= bodies.length(request) <= bodies.SMALL_BYTES
        await send.breathe()
        attached = await edge.engine.beginning.repeats.known(send)
        if attached is not None:
            await self._read.charge()
        if reads:
            edge.open_streams.take(request, self.principal)
        if attached is None:
            if send.key:  # another body under the same key is charged by itself
                self._send.once(f"{send.session_id or ''}\n{send.key}\n{send.fingerprint()}")
            send.charging = self._send
            attached = await edge.engine.beginning.begin(send)
            if not attached.fresh:  # the same send came a second time, at the same moment
                await self._read.charge()
                await self._send.refund()
        state.session, state.turn = attached.ref.session_id, attached.ref.turn_id
        return attached

    def answer(self, attached: Attached, encoder: Encoder) -> TurnResponse:
        """The turn from its start on, in a dialect that does not resume."""
        return TurnResponse(
            self._edge.engine,
            attached.ref,
            encoder,
            void=attached.void,
            headers=turn_headers(attached.ref),
            left=self.left(attached.ref),
        )

    def left(self, ref: TurnRef) -> Callable[[], None] | None:
        """What to call when the reader leaves; None where somebody may come back to the turn."""
        return partial(self._edge.engine.left, ref) if self._ends_with_reader else None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, ServiceError) or isinstance(error, StoreUnavailable):
            return
        if error.code != "rate_limited":
            await self._charge_refusal()

    async def _charge_refusal(self) -> None:
        """Charge a refusal as a read; if none is left, or reads are not limited, as a send: no flood is free.

        Raises rate_limited.
        """
        if self._read.limited:
            try:
                await self._read.charge()
            except ServiceError:
                pass
            else:
                await self._send.refund()
                return
        await self._send.charge_now()


def turn_path(ref: TurnRef) -> str:
    return f"/v1/sessions/{ref.session_id}/turns/{ref.turn_id}"


def turn_headers(ref: TurnRef) -> dict[str, str]:
    return {"X-Session-Id": ref.session_id, "X-Turn-Id": ref.turn_id}
