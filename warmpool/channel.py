"""The supervisor's end of a data channel: non-blocking, framed, fair (I3).

``Connection.recv()`` blocks on half a message though ``poll()`` was true, and ``send()`` of a
megabyte blocks until a worker reads, which a stopped one never does. So the connection's
descriptor is used in non-blocking mode, and what does not fit now waits here.
"""

from __future__ import annotations

import os
from collections import deque
from multiprocessing.connection import Connection

from warmpool import wire

CHUNK = 1 << 18
"""Bytes read from one worker before others get their turn."""

_BUFFERS_AT_ONCE = 16


class Channel:
    """One worker's data channel. *Threads:* the supervisor's alone (I1).

    Args:
        connection: The supervisor's end.
        scratch: At least :data:`CHUNK` bytes to read into, shared by all channels of a thread.
    """

    def __init__(self, connection: Connection, scratch: bytearray) -> None:
        self.descriptor = connection.fileno()
        os.set_blocking(self.descriptor, False)
        self._connection = connection
        self._scratch = memoryview(scratch)[:CHUNK]
        self._reader = wire.Reader(wire.FROM_WORKER)
        self._outgoing: deque[memoryview] = deque()

    def send(self, kind: int, task: int, body: bytes) -> bool:
        """Send a message as far as it goes now; False if :meth:`flush` has to see to the rest."""
        head = wire.header(kind, task, len(body))
        if not self._outgoing and len(body) < CHUNK:
            # One write for the usual message: the worker wakes up once.
            try:
                message = head + body
                written = os.write(self.descriptor, message)
            except BlockingIOError:
                written = 0
            except (BrokenPipeError, ConnectionResetError):
                return True  # Dead or dying; its pidfd tells (I4).
            if written == len(message):
                return True
            self._outgoing.append(memoryview(message)[written:])
            return False
        self._outgoing.append(memoryview(head))
        if body:
            self._outgoing.append(memoryview(body))
        return self.flush()

    def flush(self) -> bool:
        """Send what waits, as far as it goes now; False if something still waits."""
        outgoing = self._outgoing
        try:
            while outgoing:
                written = os.writev(self.descriptor, [outgoing[i] for i in range(_span(outgoing))])
                while written and written >= len(outgoing[0]):
                    written -= len(outgoing.popleft())
                if written:
                    outgoing[0] = outgoing[0][written:]
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            outgoing.clear()  # As in send().
        return True

    def receive(self) -> tuple[list[wire.Message], bool]:
        """Read what is there, a chunk at most, and tell whether this was the end of file.

        Raises:
            BlockingIOError: Nothing is there.
        """
        try:
            count = os.readv(self.descriptor, [self._scratch])
        except ConnectionResetError:
            # The worker died with something unread; what it had written may be lost with it.
            return [], True
        return self._reader.feed(self._scratch[:count]), count == 0

    @property
    def broken(self) -> str | None:
        """Why what was read is no message, None as long as it is; see ``wire.Reader``."""
        return self._reader.broken

    def close(self) -> None:
        """Close the connection, which the loop has forgotten already (I6)."""
        self._outgoing.clear()
        self._connection.close()


def _span(outgoing: deque[memoryview]) -> int:
    return min(len(outgoing), _BUFFERS_AT_ONCE)
