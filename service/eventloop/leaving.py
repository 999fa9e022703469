"""The signal that this process is to leave: set by its server, waited for by what runs in it."""

from __future__ import annotations

import asyncio


class Leaving(asyncio.Event):
    """Set when the process begins to leave.

    `deadline` (loop time) is when requests are cut; it may come nearer.
    `refusing`: the whole replica goes, so what is new belongs elsewhere. A worker that is merely
    replaced still answers what comes on its kept connections.
    """

    deadline: float = float("inf")
    refusing: bool = True
