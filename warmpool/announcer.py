"""Telling of settled futures those who wait for them by other means than ``result()``."""

from __future__ import annotations

from typing import Any

from warmpool.callbacks import CallbackRunner, logger
from warmpool.future import TaskFuture
from warmpool.thread import Starter


class Announcer:
    """Tells of settled futures without ever waiting for anybody's lock (I3).

    ``concurrent.futures.wait()`` and ``as_completed()`` hold locks in the user's threads, those of
    the future and of an event, which whoever tells them has to take. They hold them for a moment
    mostly; in a debugger for an hour; and, in a signal handler that runs in such a moment and waits
    for the pool, until that has done what it waits for. So they are told on threads that may wait,
    which relieve each other as those of callbacks do. *Threads:* the supervisor's.

    Args:
        callbacks: Where callbacks run.
        name: The pool's.
        starter: Starts threads.
    """

    def __init__(self, callbacks: CallbackRunner, name: str, starter: Starter) -> None:
        self._callbacks = callbacks
        # Of its own: a callback that blocks must not delay those who wait.
        self._runner = CallbackRunner(f"{name}-announcer", starter)
        self.has_none = self._runner.has_none

    def open(self) -> None:
        """Start the first thread: when it is needed, there may be none to be had.

        Raises:
            RuntimeError: The system has no thread left.
        """
        self._runner.open()

    def announce(self, future: TaskFuture[Any]) -> None:
        """Tell everybody that the future is settled. Never blocks."""
        if future.has_waiters:
            self._runner.put(future.tell_waiters)
        while (callback := future.next_callback()) is not None:
            self._callbacks.put(callback, future)

    def relieve(self, now: float) -> float | None:
        """See to it that somebody does the telling; when to ask again (monotonic), or None."""
        return self._runner.relieve(now)

    def close(self) -> None:
        """Have the rest told, and end."""
        self._runner.close()

    def finish(self, timeout: float) -> None:
        """Wait, in seconds, until everybody has been told. *Threads:* any; blocks."""
        self._runner.finish(timeout)

    def join(self, timeout: float) -> None:
        """Wait for the threads' ends, in seconds. *Threads:* any; blocks."""
        self._runner.join(timeout)


def announce_waiting(future: TaskFuture[Any]) -> None:
    """Tell everybody on a thread that may wait for locks, and run user code."""
    if future.has_waiters:
        future.tell_waiters()
    while (callback := future.next_callback()) is not None:
        try:
            callback(future)
        except BaseException:
            logger.exception("exception calling callback for %r", future)
