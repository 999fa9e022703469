"""What Redis says when it answers and refuses to write, as one of our errors.

Redis asks this of the first write of a script and of none after it, so a script is refused whole
or carried out whole. No I/O here; what a refusal means for a turn is the engine's.
"""

from __future__ import annotations

import re
from typing import Final

from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, TryAgainError

from service.errors import StoreMoving, StoreRefusesWrites, StoreUnavailable

# redis-py takes the first word of some error replies for its class; ours and those of Lua keep it.
_CLASSES: Final = ((OutOfMemoryError, "full"), (ReadOnlyError, "read_only"), (NoPermissionError, "forbidden"))
_WORDS: Final = {
    "OOM": "full",  # at maxmemory
    "READONLY": "read_only",  # a replica, or a master that became one
    "MISCONF": "disk",  # its last save or append to its file failed
    "NOREPLICAS": "no_replicas",  # fewer than min-replicas-to-write
    "NOPERM": "forbidden",  # by its ACL
    "ACL failure": "forbidden",  # the same inside a script
    "previous master is now a slave": "read_only",  # redis-py, behind Sentinel
}
_WORD: Final = re.compile("|".join(_WORDS))


def refusal(error: BaseException) -> str:
    """Why the store does not write: one of metrics.REFUSALS; '' for any other error."""
    for kind, reason in _CLASSES:
        if isinstance(error, kind):
            return reason
    found = _WORD.search(str(error))
    return _WORDS[found[0]] if found else ""


def unavailable(error: BaseException) -> StoreUnavailable:
    """Redis's error, or the system's, as ours."""
    if isinstance(error, TryAgainError) or str(error).startswith("TRYAGAIN"):
        return StoreMoving()
    reason = refusal(error)
    return StoreRefusesWrites(reason) if reason else StoreUnavailable()
