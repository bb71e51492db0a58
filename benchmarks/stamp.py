"""An instant handed from a worker to the host, even if the worker dies with its next breath."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


class Stamp:
    """Eight bytes in a file: `tasks.mark` writes them in the worker, `take` reads them here."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.clear()

    def clear(self) -> None:
        with open(self.path, "wb") as file:
            file.write(bytes(8))

    def take(self) -> float:
        """The instant in seconds of `time.monotonic`; the stamp is empty again afterwards."""
        with open(self.path, "rb") as file:
            instant = int.from_bytes(file.read(8), "little")
        if not instant:
            raise RuntimeError("the task never started: its worker left no stamp")
        self.clear()
        return instant / 1e9


@contextmanager
def new_stamp() -> Iterator[Stamp]:
    # In memory where there is such a place: a disk's latency is not the pool's.
    directory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.NamedTemporaryFile(prefix="warmpool-bench-", dir=directory) as file:
        yield Stamp(file.name)
