"""When a worker looks for cycles: in a quiet moment, since a look stops all of its streams.

Everything else is freed at once, by its count of references; a turn leaves no cycles (a test sees to
it), so what a look finds is what failures have left. Only for processes that serve and nothing else.
"""

from __future__ import annotations

import gc
import time
from typing import Final

# Objects made and not freed since the last look that are worth one: 10 ms, some MiB. Those that open
# connections have in use are none of them: 200 for an idle reader, 450 for a stream of some seconds.
_WORTH: Final = 20_000
_IN_USE: Final = 500
# And so many are looked at in any case, for half a second: 200 MiB at most, were nothing of it in use.
# At Python's own 700 the collector took a tenth of a busy worker's time; at 100,000 the streams of a worker
# that had 500 stood still for 40 ms every ten seconds and were late for a second, busy as it was.
_IN_ANY_CASE: Final = 1_000_000
# Of a core, over the last second: above it somebody would wait for the end of the look.
_QUIET: Final = 0.2
# After it nothing is looked at for a thousand times as long as it took: 5,000 open readers are 0.5 s.
_REST: Final = 1000


class Collector:
    def __init__(self) -> None:
        self._seen, self._used = time.monotonic(), time.thread_time()
        self._rested = 0.0

    def settle(self) -> None:
        """What is there now stays, and need not be looked at again."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(_IN_ANY_CASE, 10, 10)

    def tick(self, connections: int) -> None:
        """Once a second: look if there is something, and this thread has had little to do."""
        in_use = _IN_USE * connections
        gc.set_threshold(_IN_ANY_CASE + in_use, 10, 10)
        now, used = time.monotonic(), time.thread_time()
        quiet = used - self._used < _QUIET * (now - self._seen)
        self._seen, self._used = now, used
        if quiet and now >= self._rested and gc.get_count()[0] > _WORTH + in_use:
            gc.collect()
            ended = time.monotonic()
            self._rested = ended + _REST * (ended - now)
