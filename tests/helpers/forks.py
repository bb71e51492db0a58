"""Running something in a forked copy of this process."""

from __future__ import annotations

import os
import pickle
import select
import warnings
from collections.abc import Callable
from typing import Any

from tests.helpers import processes
from tests.helpers.waiting import BOUND


def in_fork(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a fork, which then leaves without ceremony; returns its result."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads: that is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, pickle.dumps(function(*args)))
        finally:
            os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], BOUND)
        if not ready:
            processes.kill(pid)
        assert ready, f"the fork said nothing for {BOUND:g} s"
        return pickle.loads(os.read(reading, 1 << 16))
    finally:
        os.close(reading)
        os.waitpid(pid, 0)
