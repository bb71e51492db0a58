"""Data channels of a simulated machine: the worker's end, and the host's, which is a socket."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tests.simulation.kernel import ERR, HUP, IN, OUT, File, Kernel
from warmpool.channel import AT_ONCE


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


class Tray:
    """A worker's tray; see :class:`warmpool.tray.Tray`.

    Attributes:
        theirs: As there; nobody looks at it here.
        laid_out: Called when there is something in it.
    """

    theirs = None

    def __init__(self, kernel: Kernel, room: int) -> None:
        self._kernel = kernel
        self._room = room
        self._frames: deque[tuple[int, bytes]] = deque()
        self._file = File()
        self._file.what = "tray"
        self._fd = kernel.open(self._file)
        self.laid_out: Callable[[], object] = lambda: None

    # ------------------------------------------------------------------ the host's side

    def put(self, task: int, body: bytes) -> bool:
        self._kernel.machine.step()
        self._kernel.file(self._fd)
        if len(self._frames) >= self._room or self._kernel.is_short_of_memory():
            return False
        self._frames.append((task, bytes(body)))
        self.laid_out()
        return True

    def take_back(self) -> tuple[int, ...]:
        tasks = []
        self._kernel.machine.step()
        self._kernel.file(self._fd)
        while self._frames:
            tasks.append(self._frames.popleft()[0])
            self._kernel.machine.step()  # The worker may take the next one.
        return tuple(tasks)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._kernel.close(fd)

    # ------------------------------------------------------------------ the worker's side

    def __bool__(self) -> bool:
        return bool(self._frames)

    def take(self) -> tuple[int, bytes]:
        return self._frames.popleft()


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
