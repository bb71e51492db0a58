"""What ties a server to its host: the kernel sends it SIGKILL when this process ends, however.

A fork server or a zygote looks for that end between two requests only: not while it hangs in an
import, nor while it is stopped; and it cannot be told before it has come to any line of ours. So
nothing has to run in it for this: both ends of a pipe are here, and the end of the writing one is
an event on the reading one, which sends the signal, if that is still there. When a process ends,
Linux lets go of its descriptors in the order of their numbers, or in the reverse one (since 4.3):
there are two pipes, one for each.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from warmpool import early, forkguard


class Tie:
    """Ends of pipes of which nobody but this process, the host, has any."""

    def __init__(self) -> None:
        self._reading: list[int] = []
        self._writing: list[int] = []
        forkguard.enroll(self)
        try:
            self._open(self._reading, self._writing)
            self._open(self._writing, self._reading)
        except BaseException:
            self.close()
            raise

    def _open(self, higher: list[int], lower: list[int]) -> None:
        """One more pipe, one of whose ends is to have the higher number."""
        reading, writing = os.pipe()
        self._reading.append(reading)
        self._writing.append(writing)
        number = higher.pop()
        try:
            higher.append(fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, lower[-1] + 1))
        finally:
            os.close(number)

    def fasten(self, whom: int) -> None:
        """Say whom: a process, or a group (negative)."""
        with contextlib.suppress(OSError):  # It is dead.
            for reading in self._reading:
                early.kill_at_end_of(reading, whom)

    def close(self) -> None:
        """Let go of it. The reading ends are the first, so nobody is killed."""
        self._close(self._reading, self._writing)

    def close_after_fork(self) -> None:
        """See :mod:`warmpool.forkguard`."""
        # The writing ends are the first: the host may have been killed since it was copied, and
        # then this is its end.
        self._close(self._writing, self._reading)

    @staticmethod
    def _close(*in_order: list[int]) -> None:
        for ends in in_order:
            while ends:
                os.close(ends.pop())
