"""A worker's tray: a channel from which it takes its next task, and its host the same task back.

A socket of datagrams in order (``SOCK_SEQPACKET``): who receives gets one frame, whole, and nobody
else gets it. That is what decides between the worker and the host, which keeps the worker's end as
well as its own; no lock and no word of the worker's is needed, so it also works with one that is
stopped. (Of two that read a stream each may get a half.)
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from multiprocessing.connection import Connection

from warmpool import wire
from warmpool.channel import AT_ONCE, FOR_THE_MOMENT

AVAILABLE = hasattr(socket, "SOCK_SEQPACKET") and hasattr(os, "pidfd_open")
"""Whether there are trays here. (macOS has no such sockets, of that family.)"""


class Tray:
    """Both ends. *Threads:* the supervisor's, once the worker has been started.

    Attributes:
        theirs: The worker's end.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            undo.callback(theirs.close)
            for end in (ours, theirs):
                end.setblocking(False)  # Whatever the application has made the default.
            self.theirs: Connection = Connection(os.dup(theirs.fileno()))
            undo.pop_all()
        self._ours, self._theirs = ours, theirs

    def put(self, task: int, body: bytes) -> bool:
        """Lay a task out; False if there is no room for it."""
        try:
            self._ours.send(wire.header(wire.RUN, task, len(body)) + body, AT_ONCE)
        except ConnectionError:
            return False  # The worker has shut it down, which the host's end is part of.
        except OSError as error:
            if error.errno in FOR_THE_MOMENT or error.errno == errno.EMSGSIZE:
                return False
            raise
        return True

    def take_back(self) -> tuple[int, ...]:
        """Empty it; the tasks that were there, in order."""
        tasks = []
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while frame := self._theirs.recv(wire.HEADER.size, AT_ONCE):
                tasks.append(wire.HEADER.unpack_from(frame)[1])
        return tuple(tasks)

    def close(self) -> None:
        """Close both ends, which nobody watches."""
        self.theirs.close()
        self._theirs.close()
        self._ours.close()
