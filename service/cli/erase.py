"""`python -m service erase PRINCIPAL`: remove all sessions of a principal, with or without a running service.

Prints the receipt as JSON. What runs is stopped, at whichever replica. An erasure that was cut short is
repeated; a principal that has nothing gets a receipt that says so.
"""

from __future__ import annotations

import asyncio
import math

import orjson

from service import ids
from service.cli.listening import Refused
from service.cli.own_limits import operator
from service.config.settings import Settings
from service.engine.engine import Engine
from service.engine.erasing import Erased, erase, receipt
from service.errors import StoreUnavailable
from service.store.store import Store
from service.telemetry.logs import get_logger, worker_name
from service.upstream.groq import Groq
from service.upstream.models import load_catalogue

audit = get_logger("service.audit")


def main(argv: list[str], settings: Settings) -> int:
    [principal] = argv
    if not ids.is_principal_id(principal):
        raise Refused(f"{principal!r} is no principal; GET /v1/usage/principals lists those with usage")
    if settings.redis_url is None:
        raise Refused("there is no store: set CHAT_REDIS_URL (this machine has no Redis of its own)")
    try:
        erased = asyncio.run(_erase(settings, principal))
    except StoreUnavailable:
        raise Refused("the store does not answer; what was removed until then is gone, call again") from None
    audit.info(
        "audit.person_erased",
        subject=principal,
        sessions=erased.sessions,
        turns=erased.turns,
        complete=erased.complete,
        by=operator(),
    )
    print(orjson.dumps(receipt(principal, erased), option=orjson.OPT_INDENT_2).decode())
    if not erased.complete:
        raise Refused("a session goes on answering; call again")
    return 0


async def _erase(settings: Settings, principal: str) -> Erased:
    catalogue = load_catalogue(settings.models_file, settings.model, settings.on_takeover)
    store = Store(settings, worker_name())
    engine = Engine(store, Groq(settings), catalogue)
    engine.drain()  # it stops turns, and takes none over
    await engine.open()
    try:
        return await erase(engine, principal, math.inf)
    finally:
        await engine.close()
        await store.close()
