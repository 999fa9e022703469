"""Unsent: what clients do not take of their answers, bounded in bytes.

What the kernel takes no more of waits in the memory of this process. How much the kernel takes, and how long
a client may take nothing, is set by http_protocol.py; when all together have us keep too much, those for whom
most is kept go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from service.serving.http_protocol import BoundedHttp
from service.telemetry.logs import get_logger

log = get_logger(__name__)

_MOST_BYTES: Final = 128 * 1_048_576  # of a process: an eighth of what compose gives a replica


def bound_unsent(connections: Iterable[object]) -> None:
    """Cut what is too much. Called once a second: 8,000 connections take 1 ms."""
    sizes = {
        connection: size
        for connection in connections
        if isinstance(connection, BoundedHttp) and (size := connection.transport.get_write_buffer_size())
    }
    total, cut = sum(sizes.values()), 0
    for connection in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if total <= _MOST_BYTES:
            break
        total -= sizes[connection]
        connection.transport.abort()
        cut += 1
    if cut:
        log.warning("server.unsent_cut", connections=cut, note="their clients took too little of too much")
