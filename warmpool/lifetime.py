"""Pools and the life of the interpreter: each is ended before it.

``multiprocessing`` joins every process that is not daemonic when the interpreter ends, and workers
are not: the pools have to have ended by then. Its hook was registered when it was imported, which
is before this module was; hooks run in reverse order, so ours runs first.
"""

from __future__ import annotations

import atexit
import multiprocessing.util  # noqa: F401 - for the order of the hooks, see above
import time

from warmpool.supervisor import Supervisor

_running: dict[Supervisor, float | None] = {}
"""Pools that may not have ended, and how many seconds their tasks have at the interpreter's end:
the grace of one that was forgotten; None, as many as they need, for one that was shut down without
waiting, since Executor promises that."""


def begin(supervisor: Supervisor, grace: float) -> None:
    """Open a supervisor, and see to it that it has ended before the interpreter does.

    Raises:
        RuntimeError: The system has no thread left, or the interpreter is ending.
    """
    for other in list(_running):
        if other.has_ended:
            _running.pop(other, None)
    supervisor.open()
    _running[supervisor] = grace


def let_finish(supervisor: Supervisor) -> None:
    """Give its tasks all the time they need at the interpreter's end."""
    if supervisor in _running:
        _running[supervisor] = None


def _end_all() -> None:
    now = time.monotonic()
    pools = [(pool, bound) for pool, bound in _running.items() if not pool.is_foreign]
    try:
        for pool, _ in pools:
            pool.shutdown(cancel_queued=False)
        for pool, bound in pools:
            remaining = None if bound is None else max(0.0, now + bound - time.monotonic())
            if not pool.wait_ended(remaining):
                pool.close(0.0)
    finally:
        # Also after a Ctrl-C of somebody who will not wait any longer.
        for pool, _ in pools:
            pool.close(0.0)
        for pool, _ in pools:
            pool.wait_ended(None)


atexit.register(_end_all)
