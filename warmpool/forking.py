"""How the host asks a process of its own to fork a worker: a zygote, or a template.

Descriptors travel along with the request. One of them is an end of a pair of sockets on which the
forker answers: with the worker's pid and a pidfd taken at its birth, while nobody can have reaped
it, and later with its exit status. The other side of it is in :mod:`warmpool.forker`.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
import threading
from multiprocessing import context
from typing import Any, Protocol

from warmpool import child, forker, forkguard, servers

_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
# The host may have given SIGPIPE its default again, and is not to die of a dead forker.


class Link:
    """The host's end of a forker's link. *Threads:* any.

    Args:
        end: A blocking socket.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        # Two threads may ask: the heir of a launcher that hung, and that one.
        self._sending = threading.Lock()

    def ask(self, body: bytes, descriptors: list[int]) -> None:
        """Ask for a worker.

        Raises:
            OSError: The forker is dead, or takes nothing.
        """
        message = struct.pack(forker.HEADER, len(body)) + body
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        with self._sending:
            sent = self._end.sendmsg([message], [rights], _NO_SIGNAL)
            self._end.sendall(message[sent:], _NO_SIGNAL)

    def finish(self) -> None:
        """Ask no more: the forker ends when its last worker has."""
        # Not closed: another thread may be about to use it, and its number be another's.
        with self._sending, contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let the forker end."""
        self._end.close()


class Forker(Protocol):
    """The host's side of a process that forks workers."""

    link: Link

    def await_answer(self, status: int) -> None:
        """Wait until the descriptor is readable, or raise what became of the forker."""


def receive_birth(status: int) -> tuple[int, servers.Kept]:
    """Receive a forker's answer, which is there: the worker's pid and, where there are any, pidfd.

    Raises:
        EOFError: The forker has died, or has no descriptor left.
        OSError: It could not fork.
    """
    # Not of a duplicate, which a copy of the host that is made meanwhile would not know to close.
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=status)
    try:
        with forkguard.making():
            data, descriptors, _, _ = socket.recv_fds(end, forker.NUMBER.size, 1)
            watch = servers.Kept(*descriptors)
    finally:
        end.detach()
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    try:
        if len(data) < forker.NUMBER.size:
            raise EOFError("the process that forks the workers has died, or has no descriptor left")
        servers.check_pid(forker.NUMBER.unpack(data)[0])
    except BaseException:
        watch.close()
        raise
    return forker.NUMBER.unpack(data)[0], watch


class Popen(servers.Popen):
    """As its base, but for the forker it asks."""

    method = "fork"
    DupFd = forker.Handed  # type: ignore[assignment]

    def _launch(self, process_obj: Process) -> None:
        body = servers.dump(self, process_obj)
        with contextlib.ExitStack() as undo:
            with forkguard.making():
                ours, theirs = socket.socketpair()
                self.sentinel, status = ours.detach(), theirs.detach()
                self.keep(self.sentinel)
                # The worker's, which are here for a moment: as its other ends, see making.
                workers = servers.Kept(status)
                undo.callback(workers.close)
                parent, alive = os.pipe()
                self.keep(alive)
                workers.add(parent)
            process_obj.forker.link.ask(body, [status, parent, *self._fds])
        process_obj.forker.await_answer(self.sentinel)
        self.pid, self._watch = receive_birth(self.sentinel)

    def take_watch(self) -> int | None:
        """The worker's pidfd; the caller's to close from now on."""
        return self._watch.take()


class Process(context.ForkProcess):
    """A process that a given forker forks."""

    def __init__(self, forker_: Forker, endpoints: child.Endpoints, name: str) -> None:
        super().__init__(target=forker.worker, args=(endpoints,), name=name, daemon=False)
        self.forker = forker_

    @staticmethod
    def _Popen(process_obj: Any) -> Popen:  # noqa: N802 - multiprocessing's name
        return Popen(process_obj)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["forker"]
        return state
