"""When a worker runs the garbage collector: in a quiet moment, since a collection stops all its streams.

Reference counts free everything else at once. A turn leaves no cycles (a test checks that), so what a
collection finds is what failures have left. Only for processes that serve and do nothing else.
"""

from __future__ import annotations

import gc
import time
from typing import Final

# Objects made and not freed since the last collection that are worth one: it takes 10 ms and frees some MiB.
# Objects that open connections use do not count: an idle reader has 200, a stream of some seconds 450.
_WORTH: Final = 20_000
_IN_USE: Final = 500
# At this many objects Python collects even on a busy worker: 0.5 s, 200 MiB at most if all of it is garbage.
# At Python's own threshold of 700 the collector took a tenth of a busy worker's time; at 100,000 the 500
# streams of a worker stood still for 40 ms every 10 s.
_IN_ANY_CASE: Final = 1_000_000
# Share of a core, over the last second: above it somebody would wait for the collection.
_QUIET: Final = 0.2
# After a collection there is none for a thousand times as long as it took: with 5,000 open readers 0.5 s.
_REST: Final = 1000


class GcPolicy:
    def __init__(self) -> None:
        self._seen, self._used = time.monotonic(), time.thread_time()
        self._rested = 0.0

    def settle(self) -> None:
        """What exists now stays, and is never looked at again."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(_IN_ANY_CASE, 10, 10)

    def tick(self, connections: int) -> None:
        """Once a second: collect if it is worth it, and this thread has had little to do."""
        in_use = _IN_USE * connections
        gc.set_threshold(_IN_ANY_CASE + in_use, 10, 10)
        now, used = time.monotonic(), time.thread_time()
        quiet = used - self._used < _QUIET * (now - self._seen)
        self._seen, self._used = now, used
        if quiet and now >= self._rested and gc.get_count()[0] > _WORTH + in_use:
            gc.collect()
            ended = time.monotonic()
            self._rested = ended + _REST * (ended - now)
