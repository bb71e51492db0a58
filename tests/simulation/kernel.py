"""Descriptors, processes and signals of a simulated machine, as strict as a kernel, and stricter.

Numbers of descriptors and processes are used again as soon as they are free, so who uses one that
is not theirs any more meets a stranger. What Linux would let pass is a violation here: to close a
descriptor that is watched (I6), to make a call that may block (I3), to signal a stranger (I15).
"""

from __future__ import annotations

import errno
import itertools
import os
import select
import selectors
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from tests.simulation.machine import Machine, SimThread, Violation
from warmpool.channel import AT_ONCE

FIRST_DESCRIPTOR = 100_000
"""No real descriptor has such a number."""
FIRST_PID = 4_000_000
PIDS = 40
"""So few that they are used again soon."""

IN, OUT, ERR, HUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR, select.EPOLLHUP
_ALWAYS = ERR | HUP


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


class Stream(File):
    """A data channel: what is under way, and the worker's end of it.

    Attributes:
        heard: Called when there is something to read for the worker, or its end.
        drained: Called when the host has read, so that there is room again.
    """

    what = "channel"

    def __init__(self, kernel: Kernel, room: int) -> None:
        self._kernel = kernel
        self.room = room
        self.to_worker = bytearray()
        self.to_host = bytearray()
        self.host_is_gone = False
        self.worker_is_gone = False
        self.is_reset = False
        self.heard: Callable[[], object] = lambda: None
        self.drained: Callable[[], object] = lambda: None

    def events(self) -> int:
        if self.worker_is_gone:
            return IN | OUT | HUP | (ERR if self.is_reset else 0)
        return (IN if self.to_host else 0) | (OUT if len(self.to_worker) < self.room else 0)

    def closed(self) -> None:
        self.host_is_gone = True
        self.heard()

    def read(self, size: int) -> bytes:
        """What has come, for the worker."""
        data = bytes(self.to_worker[:size])
        del self.to_worker[:size]
        if data:
            self._kernel.changed()
        return data

    def write(self, data: bytes | bytearray) -> int:
        """As much of the worker's as there is room for."""
        size = min(len(data), max(0, self.room - len(self.to_host)))
        self.to_host += data[:size]
        self._kernel.changed()
        return size

    def hang_up(self) -> None:
        """The worker's end is closed, by whoever had the last copy of it."""
        if not self.worker_is_gone:
            self.worker_is_gone = True
            self.is_reset = bool(self.to_worker)
            self._kernel.changed()


class Socket:
    """The host's end, as a ``socket.socket`` that is closed with the last reference to it."""

    def __init__(self, kernel: Kernel, stream: Stream) -> None:
        self._kernel = kernel
        self._machine = kernel.machine
        self._stream = stream
        self._fd = kernel.open(stream)

    def fileno(self) -> int:
        return self._fd

    def send(self, data: Any, flags: int = 0) -> int:
        self._begin(flags)
        return self._put(memoryview(data))

    def sendmsg(self, parts: Sequence[Any], ancillary: Any = (), flags: int = 0) -> int:
        self._begin(flags)
        sent = 0
        for part in parts:
            try:
                sent += (count := self._put(memoryview(part)))
            except OSError:
                if not sent:
                    raise
                break
            if count < len(part):
                break
        return sent

    def recv_into(self, buffer: memoryview, size: int, flags: int = 0) -> int:
        data = self.recv(size, flags)
        buffer[: len(data)] = data
        return len(data)

    def recv(self, size: int, flags: int = 0) -> bytes:
        self._begin(flags)
        stream = self._stream
        if not stream.to_host:
            if stream.is_reset:
                stream.is_reset = False
                raise ConnectionResetError(errno.ECONNRESET, "reset")
            if stream.worker_is_gone:
                return b""
            raise BlockingIOError(errno.EAGAIN, "nothing is there")
        size = self._kernel.part(min(size, len(stream.to_host)))
        data = bytes(stream.to_host[:size])
        del stream.to_host[:size]
        stream.drained()
        return data

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._kernel.close(fd)

    __del__ = close

    def _begin(self, flags: int) -> None:
        self._machine.step()
        if self._fd < 0:
            self._machine.fail("a channel is used after its end")
        if flags & AT_ONCE != AT_ONCE:
            self._machine.fail("a call on a channel may block (I3), or raise SIGPIPE")

    def _put(self, data: memoryview) -> int:
        stream = self._stream
        if stream.worker_is_gone:
            raise BrokenPipeError(errno.EPIPE, "nobody reads")
        if self._kernel.is_short_of_memory():
            raise OSError(errno.ENOBUFS, "no memory for now")
        room = stream.room - len(stream.to_worker)
        if room <= 0 < len(data):
            raise BlockingIOError(errno.EAGAIN, "it is full")
        size = self._kernel.part(min(room, len(data)))
        stream.to_worker += data[:size]
        stream.heard()
        return size


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
        self.selectors: list[Selector] = []
        self.strangers = 0.5
        """How likely a free number goes to a stranger."""
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
            if file is not None and (events := file.events() & (mask | _ALWAYS)):
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


class Selector:
    """``selectors.EpollSelector``."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._keys: dict[int, selectors.SelectorKey] = {}
        self.masks: dict[int, int] = {}
        self._file = File()
        self._file.what = "epoll set"
        self._fd = kernel.open(self._file)
        kernel.selectors.append(self)

    def fileno(self) -> int:
        return self._fd

    def register(self, fd: int, events: int, data: Any = None) -> selectors.SelectorKey:
        self._kernel.machine.step()
        self._kernel.file(fd)
        if fd in self._keys:
            raise KeyError(f"{fd} is already registered")
        key = self._keys[fd] = selectors.SelectorKey(fd, fd, events, data)
        self.masks[fd] = _mask(events)
        return key

    def modify(self, fd: int, events: int, data: Any = None) -> selectors.SelectorKey:
        self._kernel.machine.step()
        self._kernel.file(fd)
        before = self._keys[fd]
        if events != before.events:  # As the real one, which leaves a muted one muted else.
            self.masks[fd] = _mask(events)
        key = self._keys[fd] = before._replace(events=events, data=data)
        return key

    def unregister(self, fd: int) -> selectors.SelectorKey:
        self._kernel.machine.step()
        self._kernel.file(fd)
        del self.masks[fd]
        return self._keys.pop(fd)

    def get_key(self, fd: int) -> selectors.SelectorKey:
        return self._keys[fd]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        kernel = self._kernel
        machine = kernel.machine
        machine.step()
        machine.turn("the loop")
        kernel._give_numbers_away()
        ready = kernel.ready(self.masks.items())
        if not ready and (timeout is None or timeout > 0):
            kernel.sleep(self.masks, None if timeout is None else machine.now + timeout)
            ready = kernel.ready(self.masks.items())
        if len(ready) > 1:
            machine.rng.shuffle(ready)
        found = []
        for fd, events in ready:
            key = self._keys[fd]
            happened = (selectors.EVENT_WRITE if events & ~IN else 0) | (
                selectors.EVENT_READ if events & ~OUT else 0
            )
            found.append((key, happened & key.events))
        return found

    def close(self) -> None:
        if self in self._kernel.selectors:
            self._kernel.selectors.remove(self)
            self.masks.clear()
            self._kernel.close(self._fd)


def _mask(events: int) -> int:
    return (IN if events & selectors.EVENT_READ else 0) | (
        OUT if events & selectors.EVENT_WRITE else 0
    )


class RawEpoll:
    """``select.epoll``, of a descriptor."""

    def __init__(self, kernel: Kernel, fd: int) -> None:
        self._kernel = kernel
        self._fd = fd
        file = kernel.file(fd)
        (self._selector,) = (s for s in kernel.selectors if s._file is file)

    def modify(self, fd: int, mask: int) -> None:
        self._kernel.machine.step()
        self._kernel.file(fd)
        if fd not in self._selector.masks:
            raise FileNotFoundError(errno.ENOENT, "not registered")
        self._selector.masks[fd] = mask

    def close(self) -> None:
        self._kernel.close(self._fd)


class Poll:
    """``select.poll()``."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._masks: dict[int, int] = {}

    def register(self, fd: int, mask: int) -> None:
        self._masks[fd] = mask

    def poll(self, milliseconds: float | None = None) -> list[tuple[int, int]]:
        kernel = self._kernel
        kernel.machine.step()
        # A poll object may outlive what it was made for: poll() calls that invalid.
        if gone := [(fd, select.POLLNVAL) for fd in self._masks if fd not in kernel.files]:
            return gone
        ready = kernel.ready(self._masks.items())
        if not ready and milliseconds != 0:
            seconds = None if milliseconds is None else kernel.machine.now + milliseconds / 1e3
            kernel.sleep(self._masks, seconds)
            ready = kernel.ready((fd, m) for fd, m in self._masks.items() if fd in kernel.files)
        return ready


class Os:
    """``os``, as far as descriptors and signals go."""

    EFD_NONBLOCK, EFD_CLOEXEC = os.EFD_NONBLOCK, os.EFD_CLOEXEC
    P_PIDFD, WEXITED, WNOHANG = os.P_PIDFD, os.WEXITED, os.WNOHANG

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.kill = kernel.kill
        self.killpg = kernel.killpg

    def eventfd(self, initial: int, flags: int) -> int:
        assert flags & os.EFD_NONBLOCK
        return self._kernel.open(Counter())

    def pipe(self) -> tuple[int, int]:
        data = bytearray()
        return self._kernel.open(Pipe(data, True)), self._kernel.open(Pipe(data, False))

    def set_blocking(self, fd: int, blocking: bool) -> None:
        file = self._kernel.file(fd)
        assert isinstance(file, Pipe)
        file.blocks = blocking

    def dup(self, fd: int) -> int:
        return self._kernel.open(self._kernel.file(fd))

    def close(self, fd: int) -> None:
        # No step: it may be called where nothing can be raised.
        self._kernel.close(fd)

    def read(self, fd: int, size: int) -> bytes:
        kernel = self._kernel
        kernel.machine.step()
        file = kernel.file(fd)
        if isinstance(file, Counter):
            if not file.count:
                raise BlockingIOError(errno.EAGAIN, "nothing is there")
            count, file.count = file.count, 0
            return count.to_bytes(8, "little")
        assert isinstance(file, Pipe)
        while not file.data and not file.at_end:
            if not file.blocks:
                raise BlockingIOError(errno.EAGAIN, "nothing is there")
            kernel.sleep({fd: IN}, None)
        data = bytes(file.data[:size])
        del file.data[:size]
        return data

    def write(self, fd: int, data: bytes) -> int:
        kernel = self._kernel
        kernel.machine.step()
        file = kernel.file(fd)
        if isinstance(file, Counter):
            file.count += 1
        else:
            assert isinstance(file, Pipe)
            file.data += data
        kernel.changed()
        return len(data)

    def waitid(self, kind: int, fd: int, options: int) -> None:
        raise ChildProcessError(errno.ECHILD, "not a child")

    def getpid(self) -> int:
        return os.getpid()


def modules_of(kernel: Kernel) -> dict[str, Any]:
    """What modules see as ``os``, ``select``, ``selectors`` and ``signal``."""

    class OwnSelector(Selector):
        def __init__(self) -> None:
            super().__init__(kernel)

    class Epoll:
        fromfd = staticmethod(lambda fd: RawEpoll(kernel, fd))

    return {
        "os": Os(kernel),
        "selectors": SimpleNamespace(
            EVENT_READ=selectors.EVENT_READ,
            EVENT_WRITE=selectors.EVENT_WRITE,
            DefaultSelector=OwnSelector,
            EpollSelector=OwnSelector,
            BaseSelector=object,
        ),
        "select": SimpleNamespace(
            EPOLLIN=IN, EPOLLOUT=OUT, POLLIN=select.POLLIN, epoll=Epoll, poll=lambda: Poll(kernel)
        ),
        "signal": SimpleNamespace(
            SIGKILL=signal.SIGKILL,
            SIGCONT=signal.SIGCONT,
            pidfd_send_signal=kernel.pidfd_send_signal,
        ),
        "socket": socket,
    }
