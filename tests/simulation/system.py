"""Stand-ins for modules that ask the system, over a simulated kernel."""

from __future__ import annotations

import errno
import os
import select
import selectors
import signal
from types import SimpleNamespace
from typing import Any

from tests.simulation.kernel import IN, ONESHOT, OUT, SPENT, Counter, File, Kernel, Pipe, Watch
from warmpool import laststatus


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
            if self.masks[fd] & ONESHOT:
                self.masks[fd] = SPENT
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

    waitstatus_to_exitcode = staticmethod(os.waitstatus_to_exitcode)

    def getpid(self) -> int:
        return os.getpid()

    def readlink(self, path: str) -> str:
        raise FileNotFoundError(errno.ENOENT, "a dead process has no program", path)


def modules_of(kernel: Kernel) -> dict[str, Any]:
    """What modules see as ``os``, ``select``, ``selectors``, ``signal`` and ``fcntl``."""

    class OwnSelector(Selector):
        def __init__(self) -> None:
            super().__init__(kernel)

    class Epoll:
        fromfd = staticmethod(lambda fd: RawEpoll(kernel, fd))

    def select_nothing(_read: tuple[()], _write: tuple[()], _other: tuple[()], s: float) -> None:
        kernel.machine.sleep(s)

    def ioctl(fd: int, _request: int, info: bytearray) -> None:
        """``PIDFD_GET_INFO``."""
        kernel.machine.step()
        file = kernel.file(fd)
        if not (kernel.tells_of_the_reaped and isinstance(file, Watch)):
            raise OSError(errno.ENOTTY, "an older kernel")
        process = file.process
        if process.is_reaped and process.status is not None:
            laststatus._INFO.pack_into(info, 0, laststatus._INFO_EXIT, process.wait_status)

    return {
        "os": Os(kernel),
        "fcntl": SimpleNamespace(ioctl=ioctl),
        "selectors": SimpleNamespace(
            EVENT_READ=selectors.EVENT_READ,
            EVENT_WRITE=selectors.EVENT_WRITE,
            DefaultSelector=OwnSelector,
            EpollSelector=OwnSelector,
            BaseSelector=object,
        ),
        "select": SimpleNamespace(
            EPOLLIN=IN,
            EPOLLOUT=OUT,
            EPOLLONESHOT=ONESHOT,
            POLLIN=select.POLLIN,
            epoll=Epoll,
            poll=lambda: Poll(kernel),
            select=select_nothing,
        ),
        "signal": SimpleNamespace(
            SIGKILL=signal.SIGKILL,
            SIGCONT=signal.SIGCONT,
            pidfd_send_signal=kernel.pidfd_send_signal,
        ),
    }
