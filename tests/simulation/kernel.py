"""Descriptors, processes and signals of a simulated machine, as strict as a kernel, and stricter.

Numbers of descriptors and processes are used again as soon as they are free, so who uses one that
is not theirs any more meets a stranger. What Linux would let pass is a violation here: to close a
descriptor that is watched (I6), to make a call that may block (I3), to signal a stranger (I15).
"""

from __future__ import annotations

import errno
import itertools
import select
import signal
from collections.abc import Callable, Iterable
from typing import Any

from tests.simulation.machine import Machine, SimThread, Violation

FIRST_DESCRIPTOR = 100_000
"""No real descriptor has such a number."""
FIRST_PID = 5_000_000
"""No real process has such a number either."""
PIDS = 40
"""So few that they are used again soon."""

IN, OUT, ERR, HUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR, select.EPOLLHUP
_ALWAYS = ERR | HUP
ONESHOT = select.EPOLLONESHOT
SPENT = -1
"""In place of a mask: what was reported once, and is not again."""


class File:
    """What a descriptor stands for."""

    what = "file"

    def events(self) -> int:
        """What epoll would report."""
        return 0

    def closed(self) -> None:
        """The last descriptor of it is closed."""


class Counter(File):
    """An eventfd."""

    what = "eventfd"

    def __init__(self) -> None:
        self.count = 0

    def events(self) -> int:
        return OUT | (IN if self.count else 0)


class Pipe(File):
    """One end of a pipe."""

    what = "pipe"

    def __init__(self, data: bytearray, reads: bool) -> None:
        self.data = data
        self.reads = reads
        self.blocks = True
        self.at_end = False

    def events(self) -> int:
        if not self.reads:
            return OUT
        return (IN if self.data else 0) | (HUP if self.at_end else 0)


class Watch(File):
    """A pidfd."""

    what = "pidfd"

    def __init__(self, process: Process) -> None:
        self.process = process

    def events(self) -> int:
        return 0 if self.process.is_alive else IN


class Process:
    """A process.

    Attributes:
        die: Called by SIGKILL.
        heed: Called by other signals.
        childless: Called when nobody else is left in its group.
    """

    def __init__(self, kernel: Kernel, pid: int, owner: str) -> None:
        self._kernel = kernel
        self.pid = pid
        self.owner = owner
        self.is_alive = True
        self.is_reaped = False
        self.status: int | None = None
        self.grandchildren = 0
        self.die: Callable[[], object] = lambda: None
        self.heed: Callable[[int], object] = lambda number: None
        self.childless: Callable[[], object] = lambda: None

    def end(self, status: int) -> None:
        """It is dead now, and not reaped."""
        self.is_alive, self.status = False, status
        self._kernel.changed()

    @property
    def wait_status(self) -> int:
        """As ``wait()`` has it; to be asked once it is dead."""
        assert self.status is not None
        return self.status << 8 if self.status >= 0 else -self.status

    def lose_grandchildren(self) -> None:
        """Whoever else is in its group is gone."""
        self.grandchildren = 0
        self.childless()
        self._kernel.let_go(self)

    def vanish(self) -> None:
        """It ends, and is reaped."""
        self.is_alive = False
        self.reap()

    def reap(self) -> None:
        """Its number is free, unless somebody is left in its group."""
        self.is_reaped = True
        self._kernel.let_go(self)


class Kernel:
    """All descriptors and processes.

    Args:
        machine: Time and threads.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.fragmentation = 0.0
        """How likely a read or a write goes only part of the way."""
        self.shortage = 0.0
        """How likely the kernel has no memory for a write."""
        self.files: dict[int, File] = {}
        self.processes: dict[int, Process] = {}
        """By their numbers: those that are alive, not reaped, or have left a group."""
        self.selectors: list[Any] = []
        self.strangers = 0.5
        """How likely a free number goes to a stranger."""
        self.tells_of_the_reaped = True
        """Whether a pidfd has the status of a process that is reaped."""
        self._sleepers: list[tuple[SimThread, Any]] = []
        self._freed: list[Process] = []

    def part(self, size: int) -> int:
        """How much of a read or a write is done."""
        machine = self.machine
        if size > 1 and self.fragmentation and machine.random() < self.fragmentation:
            return machine.rng.randint(1, size)
        return size

    def is_short_of_memory(self) -> bool:
        """Whether it has none for a write just now."""
        return bool(self.shortage) and self.machine.random() < self.shortage

    # ------------------------------------------------------------------ descriptors

    def open(self, file: File) -> int:
        """The lowest number that is free, as POSIX has it."""
        for number in itertools.count(FIRST_DESCRIPTOR):
            if number not in self.files:
                self.files[number] = file
                return number
        raise AssertionError

    def file(self, fd: int) -> File:
        """What a number stands for."""
        file = self.files.get(fd)
        if file is None:
            self.machine.fail(f"descriptor {fd} is used, and is not open")
            raise AssertionError
        return file

    def close(self, fd: int) -> None:
        """Close a descriptor, which is watched by nobody."""
        if self.machine.is_over:
            self.files.pop(fd, None)
            return
        for selector in self.selectors:
            if fd in selector.masks:
                # Not raised: it may be closed where nothing can be.
                self.machine.blame(Violation(f"a watched {self.file(fd).what} is closed (I6)"))
        file = self.file(fd)
        del self.files[fd]
        if file not in self.files.values():
            file.closed()

    def changed(self) -> None:
        """Something may be ready that was not."""
        for sleeper in list(self._sleepers):
            thread, masks = sleeper
            if self.ready(masks.items()):
                self._sleepers.remove(sleeper)
                self.machine.wake(thread)

    def ready(self, masks: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Which of these descriptors have anything to report."""
        found = []
        files = self.files
        for fd, mask in masks:
            # It may be closed while somebody polls it, who holds it open in the kernel.
            file = files.get(fd)
            if file is None or mask == SPENT:
                continue
            if events := file.events() & (mask | _ALWAYS):
                found.append((fd, events))
        return found

    def sleep(self, masks: dict[int, int], until: float | None) -> bool:
        """Wait until there is anything to report; False if the time has come first."""
        sleeper = (self.machine.current, masks)
        self._sleepers.append(sleeper)
        woken = self.machine.block(until)
        if sleeper in self._sleepers:
            self._sleepers.remove(sleeper)
        return woken

    # ------------------------------------------------------------------ processes

    def fork(self, owner: str) -> Process:
        """A new process, of a number that is free."""
        free = [pid for pid in range(FIRST_PID, FIRST_PID + PIDS) if pid not in self.processes]
        pid = self.machine.rng.choice(free) if free else max(self.processes) + 1
        process = self.processes[pid] = Process(self, pid, owner)
        return process

    def let_go(self, process: Process) -> None:
        """Make a number free, if nobody has it: for others from the host's next look on.

        In the midst of a turn, between the look whether a group is the worker's and the kill of
        that, nobody gets it: kernels go through all other numbers first.
        """
        if process.is_reaped and not process.grandchildren:
            self._freed.append(process)

    def _give_numbers_away(self) -> None:
        freed, self._freed = self._freed, []
        for process in freed:
            if self.processes.get(process.pid) is not process:
                continue
            del self.processes[process.pid]
            if process.owner != "stranger" and self.machine.random() < self.strangers:
                stranger = self.processes[process.pid] = Process(self, process.pid, "stranger")
                self.machine.after(self.machine.rng.uniform(0.01, 5.0), stranger.vanish)

    def kill(self, pid: int, number: int) -> None:
        """``os.kill()``."""
        self.machine.step()
        process = self.processes.get(pid)
        if process is None or process.is_reaped:
            raise ProcessLookupError(errno.ESRCH, "no such process")
        self._deliver(process, number)

    def killpg(self, pid: int, number: int) -> None:
        """``os.killpg()``."""
        self.machine.step()
        process = self.processes.get(pid)
        if process is None or (process.is_reaped and not process.grandchildren):
            raise ProcessLookupError(errno.ESRCH, "no such group")
        if number == signal.SIGKILL and process.grandchildren:
            process.lose_grandchildren()
        self._deliver(process, number)

    def pidfd_send_signal(self, fd: int, number: int) -> None:
        """``signal.pidfd_send_signal()``."""
        self.machine.step()
        file = self.file(fd)
        if not isinstance(file, Watch):
            self.machine.fail(f"a signal is sent to a {file.what}")
            raise AssertionError
        if file.process.is_reaped:
            raise ProcessLookupError(errno.ESRCH, "no such process")
        self._deliver(file.process, number)

    def _deliver(self, process: Process, number: int) -> None:
        if number and process.owner == "stranger":
            self.machine.fail(f"signal {number} hits a stranger (I15)")
        if number and process.is_alive:
            if number == signal.SIGKILL:
                process.die()
            else:
                process.heed(number)
