"""The supervisor's end of a data channel: non-blocking, framed, fair (I3).

``Connection.recv()`` blocks on half a message though ``poll()`` was true, and ``send()`` of a
megabyte blocks until a worker reads, which a stopped one never does. So the descriptor of the
connection is used as the socket that it is, each call of which says that it may not block; and that
it raises no SIGPIPE, which command-line tools give its deadly default again. What does not fit now
waits here.
"""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import socket
from collections import deque
from multiprocessing.connection import Connection

from warmpool import wire

CHUNK = 1 << 18
"""Bytes read from one worker before others get their turn."""

LARGEST_STEP = 1 << 22
"""The same, of something large that is read to where it is going to be used, or sent."""

_BUFFERS_AT_ONCE = 16

AT_ONCE: int = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)

FOR_THE_MOMENT = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.ENOMEM})
"""Why a write may fail that succeeds later: the socket, or the kernel's memory, is full."""


class End(socket.socket):
    """The supervisor's end, closed with the last reference to it: see :mod:`warmpool.lease`."""

    def __del__(self) -> None:
        self.close()


def make_ends() -> tuple[End, Connection]:
    """A new channel: the supervisor's end and the worker's."""
    ours, theirs = multiprocessing.Pipe()
    try:
        end = End(fileno=os.dup(ours.fileno()))
        end.setblocking(False)  # Whatever the application has made the default.
        return end, theirs
    except BaseException:
        theirs.close()
        raise
    finally:
        ours.close()


class Channel:
    """One worker's data channel. *Threads:* the supervisor's alone (I1).

    Args:
        end: The supervisor's end.
        scratch: At least :data:`CHUNK` bytes to read into, shared by all channels of a thread.
    """

    def __init__(self, end: socket.socket, scratch: bytearray) -> None:
        self.descriptor = end.fileno()
        self._socket = end
        self._scratch = memoryview(scratch)[:CHUNK]
        self._reader = wire.Reader(wire.FROM_WORKER)
        self._outgoing: deque[memoryview] = deque()

    def send(self, kind: int, task: int, body: wire.Body) -> bool:
        """Send a message as far as it goes now; False if :meth:`flush` has to see to the rest."""
        if isinstance(body, wire.Parted):
            self._outgoing.extend(map(memoryview, body.pieces(kind, task)))
            return self.flush()
        head = wire.header(kind, task, len(body))
        if not self._outgoing and len(body) < CHUNK:
            # One write for the usual message: the worker wakes up once.
            try:
                message = head + body
                written = self._socket.send(message, AT_ONCE)
            except (BrokenPipeError, ConnectionResetError):
                return True  # Dead or dying; its pidfd tells (I4).
            except OSError as error:
                written = _none_for_now(error)
            if written == len(message):
                return True
            self._outgoing.append(memoryview(message)[written:])
            return False
        self._outgoing.append(memoryview(head))
        if body:
            self._outgoing.append(memoryview(body))
        return self.flush()

    def send_rest(self, rest: memoryview) -> bool:
        """Send what is left of a message whose beginning was sent past this; as :meth:`send`."""
        self._outgoing.append(rest)
        return self.flush()

    @property
    def is_clear(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._outgoing

    def flush(self) -> bool:
        """Send what waits, as far as it goes now; False if something still waits."""
        outgoing, left = self._outgoing, LARGEST_STEP
        try:
            while outgoing:
                if left <= 0:
                    return False  # The worker reads as fast as this writes: others come first.
                written = self._socket.sendmsg(_first(outgoing, left), (), AT_ONCE)
                left -= written
                while written and written >= len(outgoing[0]):
                    written -= len(outgoing.popleft())
                if written:
                    outgoing[0] = outgoing[0][written:]
        except (BrokenPipeError, ConnectionResetError):
            outgoing.clear()  # As in send().
        except OSError as error:
            return _none_for_now(error) > 0
        return True

    def receive(self) -> tuple[list[wire.Message], bool]:
        """Read what is there, a chunk at most, and tell whether this was the end of file.

        Raises:
            BlockingIOError: Nothing is there.
        """
        reader = self._reader
        room = reader.room
        try:
            if room is not None:
                return self._receive_large(room)
            count = self._socket.recv_into(self._scratch, CHUNK, AT_ONCE)
        except ConnectionResetError:
            # The worker died with something unread; what it had written may be lost with it.
            return [], True
        return reader.feed(self._scratch[:count]), count == 0

    def _receive_large(self, room: memoryview | None) -> tuple[list[wire.Message], bool]:
        # To where it is going to be used, and for as long as the worker keeps up with this: each
        # turn of the loop costs as much as a part of this does.
        reader, left = self._reader, LARGEST_STEP
        messages: list[wire.Message] = []
        while room is not None and left > 0:
            try:
                count = self._socket.recv_into(room, min(len(room), left), AT_ONCE)
            except BlockingIOError:
                if left == LARGEST_STEP:
                    raise
                break
            if count == 0:
                return messages, True
            left -= count
            messages = reader.took(count)
            room = None if messages else reader.room
        return messages, False

    def take_in(self, data: bytes) -> tuple[list[wire.Message], bool]:
        """As :meth:`receive`, of what somebody else has read."""
        return self._reader.feed(data), not data

    @property
    def broken(self) -> str | None:
        """Why what was read is no message, None as long as it is; see ``wire.Reader``."""
        return self._reader.broken

    def close(self) -> None:
        """Let go of the socket, which the loop has forgotten already (I6)."""
        self._outgoing.clear()
        del self._socket  # Closed with the last reference: see warmpool.lease.


def _none_for_now(error: OSError) -> int:
    """How much of a write has gone that failed for the moment: nothing."""
    if error.errno not in FOR_THE_MOMENT:
        raise error
    return 0


def _first(outgoing: deque[memoryview], size: int) -> list[memoryview]:
    """What comes first of it, in so many bytes at most."""
    parts = []
    for part in itertools.islice(outgoing, _BUFFERS_AT_ONCE):
        if size <= 0:
            break
        parts.append(part[:size])
        size -= len(part)
    return parts
