"""Tells an application's ``on_event`` what happens, in order, and never more than it can take."""

from __future__ import annotations

import time
from collections.abc import Callable

from warmpool.callbacks import CallbackRunner
from warmpool.notices import Notice, NoticesDropped
from warmpool.thread import Starter

MOST_NOTICES = 10_000
"""Notices that may wait. Who is slower than what he is told of for long would fill the memory."""


class Observer(CallbackRunner):
    """Calls ``on_event``, on one thread: one that is slow gets its notices later, not unordered.

    Args:
        on_event: The application's.
        name: The pool's.
        starter: Starts threads.
    """

    def __init__(self, on_event: Callable[[Notice], object], name: str, starter: Starter) -> None:
        super().__init__(f"{name}-events", starter)
        self._on_event = on_event
        self._dropped = 0

    def tell(self, notice: Notice) -> None:
        """Tell it soon. *Threads:* the supervisor's; never blocks."""
        if self.waiting >= MOST_NOTICES:
            self._dropped += 1
            return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self.put(self._on_event, NoticesDropped(time.monotonic(), dropped))
        self.put(self._on_event, notice)

    def relieve(self, now: float) -> None:
        """Nobody takes over from one that is slow."""
