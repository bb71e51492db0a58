"""Giving futures their answers without ever waiting for a future's lock (I3)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from warmpool.callbacks import CallbackRunner, logger
from warmpool.future import TaskFuture
from warmpool.loop import Loop

FIRST_RETRY, LONGEST_RETRY = 0.001, 0.05
"""Seconds between two attempts to settle futures whose locks somebody else holds. They double: a
thread that is stopped in a debugger may hold thousands of locks, and none of them soon free."""

Settlement = tuple[TaskFuture[Any], Callable[..., bool], tuple[Any, ...]]


class Settler:
    """Settles futures, and has their callbacks called elsewhere.

    ``result()`` and ``concurrent.futures.wait()`` hold a future's lock in the user's threads: for
    a moment mostly; in a debugger for an hour; and in a signal handler that runs in such a moment
    and closes the pool, until the supervisor has ended. So a settlement whose lock is taken is
    tried again, and at the end left to a thread that may wait. *Threads:* the supervisor's.

    Args:
        loop: For the retries.
        callbacks: Where callbacks run.
        name: The pool's.
    """

    def __init__(self, loop: Loop, callbacks: CallbackRunner, name: str) -> None:
        self._loop = loop
        self._callbacks = callbacks
        self._name = name
        self._waiting: list[Settlement] = []
        self._retrying = False
        self._delay = FIRST_RETRY

    def settle(self, future: TaskFuture[Any], method: Callable[..., bool], *args: Any) -> None:
        """Settle a future by one of its methods that want its lock held."""
        if not self._settle(future, method, args):
            self._waiting.append((future, method, args))
            if not self._retrying:
                self._retrying = True
                self._delay = FIRST_RETRY
                self._retry_later()

    def _settle(
        self, future: TaskFuture[Any], method: Callable[..., bool], args: tuple[Any, ...]
    ) -> bool:
        if not future.try_lock():
            return False
        try:
            has_callbacks = method(*args)
        finally:
            future.unlock()
        if has_callbacks:
            while (callback := future.next_callback()) is not None:
                self._callbacks.put(callback, future)
        return True

    def _retry_later(self) -> None:
        self._loop.call_at(time.monotonic() + self._delay, self._try_again)

    def _try_again(self) -> None:
        self._waiting = [each for each in self._waiting if not self._settle(*each)]
        self._retrying = bool(self._waiting)
        if self._waiting:
            self._delay = min(2 * self._delay, LONGEST_RETRY)
            self._retry_later()

    def close(self) -> None:
        """See to it that all are settled, now or as soon as their locks are free."""
        self._try_again()
        if self._waiting:
            self._settle_elsewhere()

    def _settle_elsewhere(self) -> None:
        thread = threading.Thread(
            target=_settle_all, args=(self._waiting,), name=f"{self._name}-settler", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            # No thread to be had. This one has nothing else left to do.
            _settle_all(self._waiting)


def settle_waiting(future: TaskFuture[Any], method: Callable[..., bool], *args: Any) -> None:
    """Settle a future on a thread that may wait for its lock, and run user code."""
    with future.locked():
        method(*args)
    while (callback := future.next_callback()) is not None:
        try:
            callback(future)
        except BaseException:
            logger.exception("exception calling callback for %r", future)


def _settle_all(settlements: list[Settlement]) -> None:
    for future, method, args in settlements:
        settle_waiting(future, method, *args)
