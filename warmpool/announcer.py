"""Telling of settled futures without ever waiting for a future's lock (I3)."""

from __future__ import annotations

import threading
import time
from typing import Any

from warmpool.callbacks import CallbackRunner, logger
from warmpool.future import TaskFuture
from warmpool.loop import Loop

FIRST_RETRY, LONGEST_RETRY = 0.001, 0.05
"""Seconds between two attempts to take locks that somebody else holds. They double: a
thread that is stopped in a debugger may hold thousands of locks, and none of them soon free."""


class Announcer:
    """Tells those who wait for settled futures by other means than ``result()``.

    ``concurrent.futures.wait()`` and ``as_completed()`` hold a future's lock in the user's threads:
    for a moment mostly; in a debugger for an hour; and in a signal handler that runs in such a
    moment and closes the pool, until the supervisor has ended. So an announcement whose lock is
    taken is tried again, and at the end left to a thread that may wait. *Threads:* the
    supervisor's.

    Args:
        loop: For the retries.
        callbacks: Where callbacks run.
        name: The pool's.
    """

    def __init__(self, loop: Loop, callbacks: CallbackRunner, name: str) -> None:
        self._loop = loop
        self._callbacks = callbacks
        self._name = name
        self._waiting: list[TaskFuture[Any]] = []
        self._delay = FIRST_RETRY

    def announce(self, future: TaskFuture[Any]) -> None:
        """Tell everybody that the future is settled."""
        if not self._announce(future):
            self._waiting.append(future)
            if len(self._waiting) == 1:
                self._delay = FIRST_RETRY
                self._retry_later()

    def _announce(self, future: TaskFuture[Any]) -> bool:
        if not future.try_lock():
            return False
        try:
            future.announce()
        finally:
            future.unlock()
        while (callback := future.next_callback()) is not None:
            self._callbacks.put(callback, future)
        return True

    def _retry_later(self) -> None:
        self._loop.call_at(time.monotonic() + self._delay, self._try_again)

    def _try_again(self) -> None:
        self._waiting = [future for future in self._waiting if not self._announce(future)]
        if self._waiting:
            self._delay = min(2 * self._delay, LONGEST_RETRY)
            self._retry_later()

    def close(self) -> None:
        """See to it that all are told, now or as soon as their locks are free."""
        waiting = [future for future in self._waiting if not self._announce(future)]
        if not waiting:
            return
        thread = threading.Thread(
            target=_announce_all, args=(waiting,), name=f"{self._name}-announcer", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            # No thread to be had. This one has nothing else left to do.
            _announce_all(waiting)


def announce_waiting(future: TaskFuture[Any]) -> None:
    """Tell everybody on a thread that may wait for the future's lock, and run user code."""
    future.lock()
    try:
        future.announce()
    finally:
        future.unlock()
    while (callback := future.next_callback()) is not None:
        try:
            callback(future)
        except BaseException:
            logger.exception("exception calling callback for %r", future)


def _announce_all(futures: list[TaskFuture[Any]]) -> None:
    for future in futures:
        announce_waiting(future)
