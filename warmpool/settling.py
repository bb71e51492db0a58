"""Giving futures their answers without ever waiting for a future's lock (I3)."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from warmpool.callbacks import CallbackRunner, logger
from warmpool.future import TaskFuture
from warmpool.loop import Loop

RETRY = 0.001
"""Seconds between two attempts to settle a future whose lock somebody else holds."""

_Callbacks = Sequence[Callable[[Any], object]]
Settlement = tuple[TaskFuture[Any], Callable[..., _Callbacks], tuple[Any, ...]]


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
        self._waiting: deque[Settlement] = deque()

    def settle(
        self, future: TaskFuture[Any], method: Callable[..., _Callbacks], *args: Any
    ) -> None:
        """Settle a future by one of its methods that give callbacks to be called."""
        if not future.try_lock():
            self._waiting.append((future, method, args))
            self._loop.call_at(time.monotonic() + RETRY, self._try_again)
            return
        try:
            callbacks = method(*args)
        finally:
            future.unlock()
        for callback in callbacks:
            self._callbacks.put(callback, future)

    def _try_again(self) -> None:
        for _ in range(len(self._waiting)):
            future, method, args = self._waiting.popleft()
            self.settle(future, method, *args)

    def close(self) -> None:
        """See to it that all are settled, now or as soon as their locks are free."""
        self._try_again()
        if self._waiting:
            threading.Thread(
                target=_settle_all, args=(self._waiting,), name=f"{self._name}-settler", daemon=True
            ).start()


def settle_waiting(future: TaskFuture[Any], method: Callable[..., _Callbacks], *args: Any) -> None:
    """Settle a future on a thread that may wait for its lock, and run user code."""
    for callback in method(*args):
        try:
            callback(future)
        except BaseException:
            logger.exception("exception calling callback for %r", future)


def _settle_all(settlements: deque[Settlement]) -> None:
    for future, method, args in settlements:
        settle_waiting(future, method, *args)
