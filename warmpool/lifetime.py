"""Pools and the life of the interpreter: each is ended before it.

``multiprocessing`` joins every process that is not daemonic when the interpreter, or a process of
its own, ends; and workers are not daemonic. The pools have to have ended by then. Its finalizers
with a priority run just before it joins, in every kind of process; an ``atexit`` hook of ours would
come too late in a spawned one, where a task may have made a pool, and be gone in a forked one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from multiprocessing import util

from warmpool.desk import Desk
from warmpool.ending import ABANDON_AFTER

_running: dict[Desk, float | None] = {}
"""Pools that may not have ended, and how many seconds their tasks have at the interpreter's end:
the grace of one that was forgotten; None, as many as they need, for one that was shut down without
waiting, since Executor promises that."""


_hooked: int | None = None
"""The process whose end has the hook."""
_ending: int | None = None
"""The process whose end has come."""

_LAST_PATIENCE = 2 * ABANDON_AFTER
"""Seconds for what was aborted: more than a supervisor needs to give up on a worker. One that is
itself stuck, by a finalizer that the garbage collector has run on it, is not waited for.
"""

_BEFORE_ANYTHING_ELSE = 1000
"""Managers and the like, which tasks may still use, have priorities up to 100."""


def begin(desk: Desk, grace: float) -> None:
    """Open a supervisor, and see to it that it has ended before the interpreter does.

    Raises:
        RuntimeError: The system has no thread left, or the interpreter is ending.
    """
    global _hooked
    if _ending == os.getpid():
        raise RuntimeError("the interpreter is ending: no new pool can be made")
    for other in list(_running):
        if other.has_ended:
            _running.pop(other, None)
    if _hooked != os.getpid():
        util.Finalize(None, _end_all, exitpriority=_BEFORE_ANYTHING_ELSE)
        _hooked = os.getpid()
    # Noted first: a Ctrl-C may leave open() at any line, with threads that run.
    _running[desk] = grace
    desk.open(functools.partial(_running.pop, desk, None))


def let_finish(desk: Desk) -> None:
    """Give its tasks all the time they need at the interpreter's end."""
    if desk in _running:
        _running[desk] = None


def _end_all() -> None:
    global _ending
    _ending = os.getpid()  # From here on none is added.
    now = time.monotonic()
    try:
        for pool in _ours():
            pool.shutdown(cancel_queued=False)
        for pool in _ours():
            bound = _running.get(pool, 0.0)  # It may have ended, and gone, meanwhile.
            remaining = None if bound is None else max(0.0, now + bound - time.monotonic())
            if not pool.wait_ended(remaining):
                pool.close(0.0)
    finally:
        # Also after a Ctrl-C of somebody who will not wait any longer; and each for itself: what
        # goes wrong with one is no reason to leave the workers of another. The last is first.
        with contextlib.ExitStack() as each:
            for pool in _ours():
                each.callback(pool.wait_ended, _LAST_PATIENCE)
            for pool in _ours():
                each.callback(pool.abort)


def _ours() -> list[Desk]:
    return [pool for pool in list(_running) if not pool.is_foreign]


def forget_pool(desk: Desk) -> None:
    """Let a pool whose user has forgotten it finish what it has, and end."""
    # A finalizer runs on any thread, at any line of it: this must not block, nor take a lock.
    desk.shutdown(cancel_queued=False)
