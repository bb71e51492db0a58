"""The threads that do for a supervisor what may block or is the user's code (I2, I3)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from warmpool.announcer import Announcer
from warmpool.callbacks import CallbackRunner
from warmpool.notices import Notice
from warmpool.observer import Observer
from warmpool.publishing import Publisher
from warmpool.relay import Relay
from warmpool.sampler import Sampler
from warmpool.thread import Starter

JOIN_PATIENCE = 1.0
"""Seconds that the end waits for each thread, which by then has nothing left to do."""


class Helpers:
    """All of them, for one pool.

    Attributes:
        callbacks: Calls callbacks and log handlers.
        announcer: Tells who waits for a future otherwise than in ``result()``.
        sampler: Reads memory.
        relay: Handles workers' log records.
        observer: Tells ``on_event``, None if there is none.

    Args:
        pool: The pool's name.
        memory_limit: For the sampler.
        on_event: For the observer.
        relays: Whether there is anything to do for the relay.
        report_memory: For the sampler.
        publisher: Tells ``warmpool top``, None if nobody is to be told.
    """

    def __init__(
        self,
        pool: str,
        memory_limit: int,
        on_event: Callable[[Notice], object] | None,
        relays: bool,
        report_memory: Callable[[int, int | None], None],
        publisher: Publisher | None,
    ) -> None:
        self._relays = relays
        self._starter = starter = Starter(f"{pool}-starter")
        self.callbacks = CallbackRunner(f"{pool}-callbacks", starter)
        self.announcer = Announcer(self.callbacks, pool, starter)
        self.sampler = Sampler(pool, memory_limit, starter, report_memory)
        self.observer = None if on_event is None else Observer(on_event, pool, starter)
        self.relay = Relay(pool, starter)
        self._relieved = (self.callbacks, self.announcer, self.sampler)
        self._publisher = publisher
        others = (self.observer, publisher)
        self._own = (
            self.announcer,
            self.sampler,
            self.relay,
            *(other for other in others if other is not None),
        )

    def open(self) -> None:
        """Start those that have to be there. *Threads:* the pool's maker.

        Raises:
            RuntimeError: The system has no thread left.
        """
        self._starter.open()
        self.callbacks.open()
        self.announcer.open()
        if self._relays:
            self.relay.open()
        for other in (self.observer, self._publisher):
            if other is not None:
                other.open()

    def log(self, function: Callable[..., object], *args: Any) -> None:
        """Call what logs. *Threads:* any; never blocks."""
        self.callbacks.put(function, *args)

    def tell(self, notice: Notice) -> None:
        """Tell ``on_event``, if there is one. *Threads:* the supervisor's; never blocks."""
        if self.observer is not None:
            self.observer.tell(notice)

    def relieve(self, earliest: float | None) -> float | None:
        """See to it that those that are stuck hold up nobody.

        Args:
            earliest: When the supervisor wakes up in any case (monotonic).

        Returns:
            When it has to wake up at the latest. *Threads:* the supervisor's; never blocks.
        """
        for runner in self._relieved:
            if not runner.has_none():
                again = runner.relieve(time.monotonic())
                if again is not None and (earliest is None or again < earliest):
                    earliest = again
        return earliest

    def close_first(self) -> None:
        """End those who may have something left for the callbacks. Never blocks."""
        for helper in self._own:
            helper.close()

    def close(self) -> None:
        """End the rest. Never blocks."""
        self.callbacks.close()
        self._starter.close()

    def finish(self, deadline: float) -> None:
        """Wait until nobody is left to be told, as long as that goes on. *Threads:* any; blocks."""
        for runner in (self.announcer, self.callbacks, self.relay, self.observer):
            if runner is not None:
                runner.finish(max(0.0, deadline - time.monotonic()))

    def join(self, deadline: float) -> None:
        """Wait for the threads' ends. *Threads:* any; blocks."""
        for part in (*self._own, self.callbacks, self._starter):
            part.join(min(JOIN_PATIENCE, max(0.0, deadline - time.monotonic())))
