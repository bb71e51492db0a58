"""One worker after another."""

from __future__ import annotations

import os
import signal

from tests.helpers import tasks
from tests.helpers.waiting import BOUND, until
from warmpool import WarmPool


def replace(pool: WarmPool, worker: int) -> int:
    """Kill an idle worker, and return the pid of the next one; it is the pool's only one."""
    os.kill(worker, signal.SIGKILL)

    def next_one() -> int | None:
        pid = pool.submit(tasks.own_pid).result(BOUND)
        return None if pid == worker else pid

    replacement = until(next_one, "a replacement")
    assert replacement is not None
    return replacement
