"""A future whose waiting task continues inside the callback that sets the result.

asyncio continues a waiting task one iteration of the event loop later, behind everything else that is
ready: 0.4 ms on a busy worker, and a first token has a dozen such waits before it. For results that
network connections bring. A result that is set while another task runs continues its waiter in
asyncio's usual way, since tasks do not nest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


class InlineFuture(asyncio.Future[T]):
    """One task may await it; other callbacks are run as asyncio runs them."""

    _waiting: tuple[Callable[[Any], object], Context] | None = None

    def add_done_callback(
        self, callback: Callable[[Any], object], /, *, context: Context | None = None
    ) -> None:
        # Tasks bring their context; nobody else in asyncio does.
        if context is None or self._waiting is not None or self.done():
            super().add_done_callback(callback, context=context)
        else:
            self._waiting = callback, context

    def set_result(self, result: T, /) -> None:
        super().set_result(result)
        self._hand_over()

    def set_exception(self, exception: type[BaseException] | BaseException, /) -> None:
        super().set_exception(exception)
        self._hand_over()

    def cancel(self, msg: Any | None = None) -> bool:
        cancelled = super().cancel(msg)
        if cancelled:
            self._hand_over(at_once=False)  # who cancels (as asyncio.timeout does) has more to do first
        return cancelled

    def _hand_over(self, *, at_once: bool = True) -> None:
        if self._waiting is None:
            return
        (wake, context), self._waiting = self._waiting, None
        loop = self.get_loop()
        if at_once and asyncio.current_task(loop) is None:
            context.run(wake, self)
        else:
            loop.call_soon(wake, self, context=context)
