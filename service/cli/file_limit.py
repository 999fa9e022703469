"""How many files and connections a process may have open: as many as the system allows.

A shell's soft limit is often 1,024. A process may raise it to the hard one by itself; workers inherit that.
"""

from __future__ import annotations

import resource
from typing import Final

from service.config.settings import Settings
from service.telemetry.logs import get_logger

log = get_logger(__name__)

_MOST: Final = 1 << 20  # containers may have a billion as their limit, which no kernel gives
_OWN: Final = 256  # files, sockets to Redis, scrapers, clients that only read


def needed(settings: Settings) -> int:
    """Descriptors of a worker: two per running turn (its client, the provider), and some more."""
    return 2 * settings.max_running_turns + _OWN


def raise_file_limit(settings: Settings) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft == resource.RLIM_INFINITY or soft >= allowed:
        allowed = _MOST if soft == resource.RLIM_INFINITY else soft
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed(settings):
        log.warning(
            "files.few",
            limit=allowed,
            need=needed(settings),
            action="raise the hard limit (ulimit -Hn, LimitNOFILE), or lower CHAT_MAX_RUNNING_TURNS",
        )
