"""A place where a task in a worker announces itself and waits until the test lets it pass."""

from __future__ import annotations

import os
import select
from pathlib import Path
from typing import Any, TypeVar

from tests.helpers.waiting import BOUND

T = TypeVar("T")


class Gate:
    """Two named pipes: arrivals (a line each) and passes (a byte each).

    Only the path travels to workers, so it works with every start method and leaves nothing in
    them. The maker holds both pipes open for reading and writing: nobody's ``open()`` blocks, and
    what was written stays until it is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mine: dict[str, int] = {}
        for name in ("arrivals", "passes"):
            os.mkfifo(f"{path}-{name}")
            self._mine[name] = os.open(f"{path}-{name}", os.O_RDWR | os.O_CLOEXEC)

    @classmethod
    def at(cls, path: Path) -> Gate:
        """The gate that another process has made there."""
        gate = cls.__new__(cls)
        gate.__setstate__(path)
        return gate

    def __getstate__(self) -> Path:
        return self.path

    def __setstate__(self, path: Path) -> None:
        self.path = path
        self._mine = {}

    def close(self) -> None:
        while self._mine:
            os.close(self._mine.popitem()[1])

    # ------------------------------------------------------------------ in a worker

    def announce(self, pid: int | None = None) -> None:
        """Tell the test that this process, or another, has come here."""
        descriptor = os.open(f"{self.path}-arrivals", os.O_WRONLY)
        os.write(descriptor, b"%d\n" % (os.getpid() if pid is None else pid))
        os.close(descriptor)

    def wait(self) -> None:
        """Wait to be let pass."""
        descriptor = os.open(f"{self.path}-passes", os.O_RDONLY)
        os.read(descriptor, 1)
        os.close(descriptor)

    def hold(self, value: T = None) -> T:  # type: ignore[assignment]
        """Announce, wait, and return the value."""
        # Opened before: when the test lets this pass, ends, and closes the gate, the pass is lost
        # for one that has not got so far, and nobody is there any more to open the pipe to.
        descriptor = os.open(f"{self.path}-passes", os.O_RDONLY)
        self.announce()
        os.read(descriptor, 1)
        os.close(descriptor)
        return value

    # ------------------------------------------------------------------ in the test

    def arrived(self, bound: float = BOUND) -> int:
        """Wait for the next arrival and return the pid of the one that came."""
        arrivals = self._mine["arrivals"]
        ready, _, _ = select.select([arrivals], [], [], bound)
        assert ready, f"nobody came to the gate within {bound:g} s"
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(arrivals, 1)
        return int(line)

    def nobody_waits(self) -> bool:
        """Whether no arrival is unread."""
        return not select.select([self._mine["arrivals"]], [], [], 0)[0]

    def open(self, count: int = 1) -> None:
        """Let so many pass."""
        os.write(self._mine["passes"], b"." * count)


def hold(gate: Gate, value: Any = None) -> Any:
    """A task that waits at a gate."""
    return gate.hold(value)
