"""A worker's end of its channels. It waits for the next message, and writes without hurry.

Each way out of the process is marked, as in :mod:`warmpool.child`.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NoReturn, TypeVar

from warmpool import wire

Socket = socket.socket
"""As it is before any code of the user's has put something else in its place (PySocks does)."""

_From = TypeVar("_From")
_Got = TypeVar("_Got")

LONGEST_LAID_OUT = 1 << 14
"""Bytes. More than any frame that is put into a tray."""

_SMALL = 1 << 16
"""Bytes below which two pieces are put together, and which are read in one go."""

_PIECES_AT_ONCE = 16
"""The system takes 1,024 at most."""


def leave_with_host() -> NoReturn:
    """End: the host is gone, or has let go of this worker."""
    # Nobody is left to observe it. The whole group goes, unless it is not ours.
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def as_socket(descriptor: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """The end that has this descriptor, as a socket, which waits."""
    made = Socket(socket.AF_UNIX, kind, 0, descriptor)
    made.settimeout(None)  # Whatever __main__ has made the default.
    return made


def take_over(end: Connection | socket.socket) -> socket.socket:
    """The same end, as a socket, in a descriptor of its own."""
    if isinstance(end, Socket):
        return end
    made = as_socket(os.dup(end.fileno()))
    end.close()
    return made


def _unless_at_end(read: Callable[[_From], _Got], source: _From) -> _Got:
    """What is read; at the end this process ends."""
    try:
        if got := read(source):
            return got
    except ConnectionResetError:
        pass  # The host has gone with an answer unread.
    # Way out: the host closed the channel, or is gone. Not in order, which would leave behind what
    # tasks have started: the control thread may be slower.
    leave_with_host()


class Channel:
    """Blocking reading and writing of messages. *Threads:* the main one; see :meth:`share`."""

    # By a socket's own calls, not read() and write(): a task may close all descriptors that it does
    # not know, and open a file that gets the number. That must not get our frames; it makes these
    # calls fail, and the worker with them.

    def __init__(self, data: socket.socket, tray: socket.socket | None) -> None:
        self._socket = data
        self._tray = tray
        self._was_in_tray = False
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self.send: Callable[[int, int, wire.Body], None] = self._send
        """Write a message, of this kind and for this task, for as long as it takes."""
        self._sender: int | None = None
        self._waiting: deque[tuple[int, int, wire.Body]] = deque()
        self._reader = wire.Reader(wire.TO_WORKER)
        self._messages: list[wire.Message] = []
        self._data = data.fileno()
        self._poll = select.poll()
        self._poll.register(data, select.POLLIN)
        if tray is not None:
            self._poll.register(tray, select.POLLIN)

    def receive(self) -> wire.Message:
        """Wait for the next message."""
        reader = self._reader
        while not self._messages:
            if self._was_in_tray and (message := self._take()) is not None:
                return message
            # Not by reading: who blocks in a read of a socket is woken, for nothing, also when the
            # other side has taken what was written.
            ready = self._poll.poll()
            if ready[0][0] != self._data and len(ready) == 1:
                # Not if there is something on the data channel too, which was sent before.
                self._was_in_tray = True
                continue
            if (room := reader.room) is not None:
                self._messages = reader.took(_unless_at_end(self._socket.recv_into, room))
                continue
            size = max(_SMALL, min(missing, 1 << 20)) if (missing := reader.missing) else _SMALL
            self._messages = reader.feed(_unless_at_end(self._socket.recv, size))
            if reader.broken is not None:
                # Way out: the arguments do not fit into memory. Not started, so run elsewhere.
                raise MemoryError(reader.broken)
        return self._messages.pop(0)

    def _take(self) -> wire.Message | None:
        """The next task in the tray, if there is one."""
        assert self._tray is not None
        try:
            frame = self._tray.recv(LONGEST_LAID_OUT, socket.MSG_DONTWAIT)
        except BlockingIOError:
            # None, or the host has taken it back in this instant.
            self._was_in_tray = False
            return None
        if not frame:
            # Way out: the host is gone, whose descriptors end one after the other; or the task has
            # shut the tray down, and what was laid out is lost to this worker.
            leave_with_host()
        kind, task, _ = wire.HEADER.unpack_from(frame)
        return kind, task, frame[wire.HEADER.size :]

    def share(self) -> None:
        """From here on other threads than the main one may send, too."""
        self.send = self._send_shared

    def _send_shared(self, kind: int, task: int, body: wire.Body) -> None:
        self._waiting.append((kind, task, body))
        if self._sender == threading.get_ident():
            return  # A signal handler of the task's logs, in the middle of a message: after it.
        with self._lock:
            self._sender = threading.get_ident()
            try:
                while self._waiting:
                    self._send(*self._waiting.popleft())
            finally:
                self._sender = None

    def _send(self, kind: int, task: int, body: wire.Body) -> None:
        if os.getpid() != self._owner:
            # Way out: user code forked, and the copy returned into our loop. It must not answer
            # in the worker's place. Nobody observes it but that code.
            os._exit(0)
        try:
            if isinstance(body, wire.Parted):
                self._write(list(body.pieces(kind, task)))
                return
            head = wire.header(kind, task, len(body))
            if len(body) >= _SMALL:
                self._write([head, body])
                return
            # One piece for the usual answer, which is small; a large body is not copied.
            message = head + body
            written = self._socket.send(message)
            if written < len(message):
                self._write([memoryview(message)[written:]])
        except BrokenPipeError:
            # Way out: the host is gone.
            leave_with_host()

    def _write(self, parts: list[wire.Bytes]) -> None:
        while parts:
            written = self._socket.sendmsg(parts[:_PIECES_AT_ONCE])
            while parts and written >= len(parts[0]):
                written -= len(parts.pop(0))
            if parts and written:
                parts[0] = memoryview(parts[0])[written:]
