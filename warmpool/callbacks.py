"""Where user code runs that the supervisor's thread must not run (I2): callbacks, log handlers.

In order, on one thread, as long as each call returns soon. One that does not is left alone with
its thread, and another thread takes over the rest: a callback that blocks delays others by
:data:`PATIENCE`, not for ever.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from warmpool.thread import Starter

PATIENCE = 0.1
"""Seconds that a call may take before another thread takes over."""
LAST_PATIENCE = 10.0
"""Seconds in which a call has to end for the end to wait for more of them."""
MOST_THREADS = 64
"""Calls that may be stuck at the same time before others have to wait for one of them."""

logger = logging.getLogger("warmpool")

_Call = tuple[Callable[..., object], tuple[Any, ...]]


class Callback:
    """A function of the user's, compared by identity, whatever its ``__eq__`` thinks."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[Any], object]) -> None:
        self.function = function


class CallbackRunner:
    """Runs calls off the supervisor's thread.

    Args:
        name: For the threads.
        starter: Starts threads for the supervisor.
    """

    def __init__(self, name: str, starter: Starter) -> None:
        self._name = name
        self._starter = starter
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self.has_none = self._calls.empty
        """Whether no call waits. The supervisor asks each time before it sleeps: so this is the
        queue's own method."""
        self._threads: list[threading.Thread] = []
        self._current: dict[threading.Thread, float] = {}
        # Invariant: the keys are the threads within a call that count as serving.
        self._serving: set[threading.Thread] = set()
        self._drained = threading.Event()
        self._done = 0

    def open(self) -> None:
        """Start the first thread. *Threads:* the pool's maker.

        Raises:
            RuntimeError: The system has no thread left.
        """
        thread = self._make_thread()
        try:
            thread.start()
        except RuntimeError:
            self._serving.discard(thread)
            raise

    def put(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function soon. *Threads:* any; never blocks."""
        self._calls.put((function, args))

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return self._calls.qsize()

    def relieve(self, now: float) -> float | None:
        """Start another thread if calls wait and all threads are stuck in one.

        Returns:
            When to ask again (monotonic), None if nothing waits. *Threads:* the supervisor's.
        """
        return self._relieve(now, self._starter.start)

    def _relieve(self, now: float, start: Callable[[threading.Thread], None]) -> float | None:
        if self._calls.empty():
            return None
        # By sums, never by differences: now - (now - 0.1) is less than 0.1 for whole weeks of a
        # machine's uptime, then more for as long. One that is not alive was interrupted as it was
        # started, and may never run.
        patient_until = [
            self._current.get(thread, now) + PATIENCE if thread.is_alive() else now
            for thread in list(self._serving)
        ]
        relieved_at = max(patient_until, default=now)
        if now < relieved_at:
            return relieved_at
        self._threads = [thread for thread in self._threads if _may_run(thread)]
        if len(self._threads) < MOST_THREADS:
            # All have been in the same call for too long. They go on, but count no more.
            self._serving.clear()
            start(self._make_thread())
        return now + PATIENCE

    def close(self) -> None:
        """Run what waits, then end. *Threads:* one; never blocks."""
        if not self._threads and self._calls.empty():
            self._drained.set()  # It was never needed.
            return
        self._calls.put(None)
        if self._current or not self._calls.empty():
            # Nobody relieves any more those that may be, or get, stuck.
            thread = threading.Thread(target=self._see_off, name=f"{self._name}-end", daemon=True)
            self._threads.append(thread)
            self._starter.start(thread)

    def _see_off(self) -> None:
        while not self._drained.wait(PATIENCE):
            # On this thread, which may wait: the starter may have ended by now.
            with contextlib.suppress(RuntimeError):
                self._relieve(time.monotonic(), threading.Thread.start)

    @property
    def threads(self) -> list[threading.Thread]:
        """All threads that were started here."""
        return self._threads

    def finish(self, timeout: float) -> None:
        """After :meth:`close`: wait until all has been called, as long as calls come to an end.

        Args:
            timeout: Seconds at most.
        """
        deadline = time.monotonic() + timeout
        while True:
            done, left = self._done, max(0.0, deadline - time.monotonic())
            if self._drained.wait(min(left, LAST_PATIENCE)):
                return
            if self._done == done or left == 0.0:
                return

    def join(self, timeout: float) -> None:
        """Wait for the threads' ends, so many seconds in all; one stuck in a call is left."""
        deadline = time.monotonic() + timeout
        for thread in list(self._threads):
            if thread is not threading.current_thread() and thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _make_thread(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._serving.add(thread)
        self._threads.append(thread)
        return thread

    def _run(self) -> None:
        me = threading.current_thread()
        while (call := self._calls.get()) is not None:
            self._current[me] = time.monotonic()
            function, args = call
            try:
                function(*args)
            except BaseException:
                # SystemExit included: it ends a thread silently, and with it, elsewhere, the pool.
                logger.exception("exception calling callback %r", function)
            del self._current[me]
            self._done += 1
            del call, function, args
            if me not in self._serving:
                return  # Another thread serves by now.
        self._drained.set()
        self._calls.put(None)  # For the others.


def _may_run(thread: threading.Thread) -> bool:
    """Whether it runs, or may be started yet."""
    return thread.ident is None or thread.is_alive()
