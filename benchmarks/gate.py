"""Tasks that all wait until they are let go, whatever pool they run in.

A lock on a file and not one of `multiprocessing`: that would have to travel to the workers, which
every pool does in a way of its own.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

LOOK_EVERY = 0.01


class Gate:
    """Closed while it is new.  Workers arrive at it by `tasks.hold(gate.path)`."""

    def __init__(self, path: str) -> None:
        self.path = path
        # A descriptor of its own: flock locks belong to open files, and `hold` opens it again.
        self._descriptor = os.open(path, os.O_RDWR)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def arrived(self, count: int, patience: float) -> bool:
        """Whether so many came to wait here, within `patience` seconds."""
        until = time.monotonic() + patience
        while os.stat(self.path).st_size < count:
            if time.monotonic() > until:
                return False
            time.sleep(LOOK_EVERY)
        return True

    def open(self) -> None:
        # Not by closing alone: workers that were forked meanwhile hold the same open file.
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        self.open()
        os.close(self._descriptor)


@contextmanager
def new_gate() -> Iterator[Gate]:
    with tempfile.NamedTemporaryFile(prefix="warmpool-bench-") as file:
        gate = Gate(file.name)
        try:
            yield gate
        finally:
            gate.close()
