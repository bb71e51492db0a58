"""How a thread sleeps until another one wakes it, when every microsecond counts.

A thread that is woken by the release of a lock wakes up while its waker still holds the
interpreter's own lock (GIL), wants that, and goes to sleep again: on one core that is four
switches between threads for one wake-up. A waker that writes to a descriptor lets go of the GIL
meanwhile, so who wakes up finds it free: a warm round trip takes a fifth less.

Descriptors are scarce, so there is a bound on them; past it, or where none is to be had, a lock
has to do.
"""

from __future__ import annotations

import math
import os
import select
import threading
from typing import Protocol

from warmpool import forkguard

MOST_PIPES = 8
"""How many parkers of a pool have one. More threads than that seldom wait at the same time."""


_LONGEST_POLL = 1e6
"""Seconds. poll() refuses more than 24 days."""


TOKEN, OTHER, BROKEN, NOBODY = range(4)
"""What has ended a sleep beside another descriptor: a waker, that descriptor, its end, nothing."""


class Parker(Protocol):
    """Lets one thread sleep. Each :meth:`unpark` ends one :meth:`park`, in either order."""

    has_descriptor: bool
    """Whether :meth:`park_beside` can be called."""

    def park(self, timeout: float | None) -> bool:
        """Sleep, for so many seconds at most; False if nobody came. *Threads:* one; blocks."""

    def park_beside(self, other: int, timeout: float | None) -> int:
        """As :meth:`park`; also ended when the other descriptor is readable, or at its end.

        Returns:
            What has ended it; ``TOKEN`` if several have.
        """

    def unpark(self) -> None:
        """Wake the sleeper up. *Threads:* any; never blocks."""


class _PipeParker:
    # A pipe and no eventfd: Linux takes a write to a pipe as a hint that the writer is about to
    # sleep, and runs the reader on its core. Hopping between cores costs more than all the rest.

    has_descriptor = True
    _poll: select.poll | None = None
    _beside: tuple[int, select.poll] | None = None
    _is_open = False
    _permits: list[None] | None = None

    def __init__(self, permits: list[None]) -> None:
        self._permits = permits
        # Nothing in between: who is interrupted there would leave the pipe open for ever.
        (self._reading, self._writing), self._is_open = os.pipe(), True
        forkguard.enroll(self)

    def park(self, timeout: float | None) -> bool:
        if timeout is not None and not self._is_readable_within(timeout):
            return False
        os.read(self._reading, 1)
        return True

    def _is_readable_within(self, timeout: float) -> bool:
        poll = self._poll
        if poll is None:
            poll = select.poll()
            poll.register(self._reading, select.POLLIN)
            self._poll = poll  # Not before: an interrupt would leave one that hears nothing.
        # Not by our own look at the clock, which a test may have stopped.
        while not poll.poll(_milliseconds(timeout)):
            timeout -= _LONGEST_POLL
            if timeout <= 0:
                return False
        return True

    def park_beside(self, other: int, timeout: float | None) -> int:
        beside = self._beside
        if beside is None or beside[0] != other:
            # Kept for the next time: mostly that is beside the same one.
            poll = select.poll()
            poll.register(self._reading, select.POLLIN)
            poll.register(other, select.POLLIN)
            self._beside = beside = other, poll
        ask = beside[1].poll
        while not (ready := ask() if timeout is None else ask(_milliseconds(timeout))):
            if timeout is not None:
                timeout -= _LONGEST_POLL
                if timeout <= 0:
                    return NOBODY
        if len(ready) > 1 or ready[0][0] != other:
            os.read(self._reading, 1)
            return TOKEN
        return OTHER if ready[0][1] == select.POLLIN else BROKEN

    def unpark(self) -> None:
        os.write(self._writing, b"\1")

    def close_after_fork(self) -> None:
        """See :mod:`warmpool.forkguard`."""
        self._is_open = False
        os.close(self._reading)
        os.close(self._writing)

    # Closed with the last reference: a waker that comes late must not write into a stranger's
    # descriptor of the same number.
    def __del__(self) -> None:
        if self._is_open:
            os.close(self._reading)
            os.close(self._writing)
        if self._permits is not None:  # Else it was interrupted at the very beginning.
            self._permits.append(None)


def make_way() -> None:
    """Let those go first who were just unparked. *Threads:* any; blocks for a moment."""
    # They wait for the GIL and, since Linux takes the writer of a pipe for one who is about to
    # sleep, for this core, though another may be idle. How short a sleep is makes no difference.
    select.select((), (), (), 1e-5)


def _milliseconds(timeout: float) -> int:
    return math.ceil(min(timeout, _LONGEST_POLL) * 1e3)


class _LockParker:
    has_descriptor = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def park(self, timeout: float | None) -> bool:
        return self._lock.acquire(
            timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX)
        )

    def park_beside(self, other: int, timeout: float | None) -> int:
        raise NotImplementedError

    def unpark(self) -> None:
        self._lock.release()


class Parkers:
    """The parkers of one pool, used again and again.

    *Threads:* any; without a lock, since a signal handler may need one while the thread that it
    interrupts takes one.
    """

    def __init__(self) -> None:
        self.are_expected = False
        """Whether whoever submits a task is likely to park until it is done, as the last did.
        *Threads:* any may change it; a wrong guess costs time and nothing else."""
        self._free: list[_PipeParker] = []
        self._permits: list[None] = [None] * MOST_PIPES
        # Invariant: as many as pipes may yet be made; taken off one by one, atomically.
        self._closed = False

    def take(self) -> Parker:
        """A parker that nobody else uses, and that no token is on its way to."""
        try:
            return self._free.pop()
        except IndexError:
            pass
        try:
            self._permits.pop()
            return _PipeParker(self._permits)
        except (IndexError, OSError):
            return _LockParker()

    def give_back(self, parker: Parker) -> None:
        """Put it back, if it may be used again."""
        if isinstance(parker, _PipeParker):
            self._free.append(parker)
            if self._closed:
                self._free.clear()

    def lose(self, parker: Parker) -> None:
        """Do without one that a token may be on its way to.

        It closes by itself, as any that an interrupt has left to nobody, and another may be made.
        """

    def close(self) -> None:
        """Let go of those that nobody uses; the others go as they are given back."""
        self._closed = True
        self._free.clear()
