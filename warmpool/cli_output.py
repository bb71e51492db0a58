"""Where ``warmpool map`` writes: nothing here ever waits for whoever reads.

Standard output may be a terminal that is stopped, standard error a pipe that is full, the failures
file a named pipe. A write that blocked there could not be ended by Ctrl-C, whose handler only makes
a note. The descriptors of a command are shared with other processes, which must not find them in
non-blocking mode: so where a write could block, the file is opened once more.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import socket
import stat
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from warmpool.cli_io import Item, describe, encode
from warmpool.errors import RemoteTraceback, WorkerError

_WRITE_SIZE = 64 * 1024
_ROOM = 1024 * 1024
_TEXT_ROOM = 64 * 1024


class WriteFailed(Exception):
    """An output of the command cannot be written: the disk is full, for example."""


class Sink:
    """Bytes on their way to a descriptor that may not be ready for them.

    Args:
        shared: The descriptor. It stays open, and in blocking mode.
    """

    def __init__(self, shared: int) -> None:
        self.fd = shared
        """What to poll for being writable."""
        self._buffer = bytearray()
        self._close = contextlib.ExitStack()
        self._write = self._writer(shared)

    def _writer(self, shared: int) -> Callable[[bytearray], int]:
        mode = os.fstat(shared).st_mode
        if stat.S_ISREG(mode):
            return lambda data: os.write(shared, data)
        if stat.S_ISSOCK(mode):
            channel = self._close.enter_context(socket.socket(fileno=os.dup(shared)))
            return lambda data: channel.send(data, socket.MSG_DONTWAIT)
        try:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            self.fd = own = os.open(f"/proc/self/fd/{shared}", flags)
        except OSError:
            # No such directory, or no right to open it. A writable pipe has room for this much.
            poll = select.poll()
            poll.register(shared, select.POLLOUT)
            return lambda data: os.write(shared, data[: select.PIPE_BUF]) if poll.poll(0) else 0
        self._close.callback(os.close, own)
        return lambda data: os.write(own, data)

    @property
    def pending(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._buffer)

    @property
    def waiting(self) -> int:
        """How many bytes wait to be written."""
        return len(self._buffer)

    @property
    def has_room(self) -> bool:
        """Whether more may be added; if not, whoever reads the output is too slow."""
        return self.waiting < _ROOM

    def add(self, data: bytes) -> None:
        """Put something behind what waits to be written."""
        self._buffer += data

    def write_some(self) -> bool:
        """Write what can be written now, a piece at most; False if nothing could.

        Raises:
            OSError: It cannot be written.
        """
        try:
            written = self._write(self._buffer[:_WRITE_SIZE])
        except BlockingIOError:
            return False
        del self._buffer[:written]
        return written > 0

    def drop(self) -> None:
        """Forget what waits."""
        self._buffer.clear()

    def close(self) -> None:
        """Let go of what was opened here."""
        self._close.close()


class Output(Sink):
    """Result lines on their way to standard output."""

    def write_some(self) -> bool:
        """As :meth:`Sink.write_some`.

        Raises:
            BrokenPipeError: Nobody reads the output any more.
            WriteFailed: It cannot be written for another reason.
        """
        try:
            return super().write_some()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise WriteFailed(f"cannot write standard output: {error.strerror}") from error


class FailuresFile(Sink):
    """A JSON line for every failed item, with what is needed to find it and to run it again.

    Args:
        path: The file; what it held before is lost.

    Raises:
        OSError: It cannot be opened for writing.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOCTTY, 0o666)
        try:
            super().__init__(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._close.callback(os.close, descriptor)

    def add_failure(self, item: Item, error: BaseException) -> None:
        """Note one failure."""
        details = describe(error) | {"traceback": _format_traceback(error)}
        template = b'{"file": %b, "line": %d, "input": %b, "error": %b}\n'
        self.add(template % (encode(item.source), item.line, item.text, encode(details)))

    def write_some(self) -> bool:
        """As :meth:`Sink.write_some`.

        Raises:
            WriteFailed: The file cannot be written.
        """
        try:
            return super().write_some()
        except OSError as error:
            message = f"cannot write the failures file {self._path}: {error.strerror}"
            raise WriteFailed(message) from error


def _format_traceback(error: BaseException) -> str:
    if isinstance(error.__cause__, RemoteTraceback):  # the worker's frames, without the host's
        return error.__cause__.tb
    text = "".join(traceback.format_exception(error))
    stack = error.stack if isinstance(error, WorkerError) else None
    return f"{text}\nWhere the worker was:\n{stack}" if stack else text


class ErrorStream(io.TextIOBase):
    """Standard error for messages and progress: what nobody reads in time is dropped.

    What goes wrong with it is nobody's concern: a run must not end since nobody can be told how it
    goes.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self) -> None:
        self._sink: Sink | None = None
        stream = sys.stderr
        if stream is not None:  # Else it was closed when the command was started.
            with contextlib.suppress(OSError, ValueError):
                self._sink = Sink(stream.fileno())
                self.encoding = stream.encoding

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._sink is not None and os.isatty(self._sink.fd)

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str, /) -> int:
        """Write what can be written now."""
        sink = self._sink
        if sink is not None and sink.waiting < _TEXT_ROOM:
            sink.add(text.encode(self.encoding, self.errors))
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Write what still waits, as far as it goes now."""
        sink = self._sink
        if sink is None:
            return
        try:
            while sink.pending and sink.write_some():
                pass
        except OSError:
            sink.drop()

    def finish(self, timeout: float) -> None:
        """Write what still waits, for so many seconds at most, and let go of it."""
        sink, self._sink = self._sink, None
        if sink is not None:
            with contextlib.suppress(OSError):
                write_out([sink], timeout)
            sink.close()


def write_out(sinks: Sequence[Sink], timeout: float) -> None:
    """Write what waits in these, for so many seconds at most.

    Raises:
        OSError: One cannot be written.
        WriteFailed: The same, where the sink says so.
    """
    deadline = time.monotonic() + timeout
    while waiting := [sink for sink in sinks if sink.pending]:
        if (left := deadline - time.monotonic()) <= 0:
            return
        poll = select.poll()
        for sink in waiting:
            poll.register(sink.fd, select.POLLOUT)
        ready = dict(poll.poll(left * 1000))
        for sink in waiting:
            if sink.fd in ready:
                sink.write_some()
