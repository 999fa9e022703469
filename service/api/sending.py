"""One way in for every route that starts a turn: principal -> known key? -> limits -> begin."""

from __future__ import annotations

from fastapi import Request

from service import ids
from service.api import bodies
from service.api.auth import Principal
from service.api.edge import edge_of
from service.engine.sends import Attached, Own, Send
from service.errors import ServiceError
from service.store.credentials import Credential


async def start(request: Request, principal: Principal, send: Send, *, reads: bool = True) -> Attached:
    """The turn to read, new or known. Raises what the gates and the engine raise.

    `reads` is False where the response will not be the turn's stream.
    """
    edge = edge_of(request)
    if send.key is None:
        send.key = bodies.idempotency_key(request)
    header = bodies.on_busy(request)
    if header is not None and not send.on_busy_asked:
        send.on_busy = header
    send.traceparent = request.scope.get("chat.traceparent", "")
    send.request_id = request.scope.get("chat.request_id", "")
    send.own = own_bounds(principal)
    attached = await edge.engine.known(send)
    if reads:
        edge.streams.take(request, principal)
    if attached is None:
        # Whatever has to ask the store twice for a send pays once.
        once = f"{send.session_id or ''}\n{send.key}" if send.key else ids.new_turn_id()
        send.toll = toll = edge.limits.toll(request, principal, "sends", once=once)
        try:
            attached = await edge.engine.begin(send)
        except ServiceError:
            await toll.pay()  # who is refused for another reason has asked all the same
            raise
    request.scope["chat.session"] = attached.ref.session_id
    request.scope["chat.turn"] = attached.ref.turn_id
    return attached


def own_bounds(caller: Principal | Credential) -> Own:
    return Own(
        running=caller.max_running_turns,
        minute=caller.budget_tokens_per_minute,
        day=caller.budget_tokens_per_day,
        month=caller.budget_tokens_per_month,
    )


def turn_path(attached: Attached) -> str:
    return f"/v1/sessions/{attached.ref.session_id}/turns/{attached.ref.turn_id}"


def turn_headers(attached: Attached) -> dict[str, str]:
    return {"X-Session-Id": attached.ref.session_id, "X-Turn-Id": attached.ref.turn_id}
