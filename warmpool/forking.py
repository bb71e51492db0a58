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
import threading
from multiprocessing import context
from typing import Any, Protocol

from warmpool import child, forked, forker, forkguard, servers


class Link:
    """The host's end of a forker's link. *Threads:* any.

    Args:
        end: A blocking socket.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        # Two threads may ask: the heir of a launcher that hung, and that one.
        self._sending = threading.Lock()
        self._model: tuple[Any, ...] | None = None
        # Invariant: that of the process which the forker was sent last.

    def ask(self, process: Process, descriptors: list[int]) -> None:
        """Ask for a worker.

        Args:
            process: The worker's.
            descriptors: What it is to get.

        Raises:
            OSError: The forker is dead, or takes nothing.
        """
        model = process.model
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        with self._sending:
            body = b"" if model == self._model else process.dump()
            message = process.request(len(body)) + body
            self._model = None  # Until it is certain that the forker gets the new one.
            sent = self._end.sendmsg([message], [rights], forked.NO_SIGNAL)
            if sent < len(message):
                self._end.sendall(message[sent:], forked.NO_SIGNAL)
            self._model = model

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

    def _launch(self, process_obj: Process) -> None:
        with contextlib.ExitStack() as undo:
            with forkguard.making():
                ours, theirs = socket.socketpair()
                self.keep_status(ours.detach())
                # The forker's, which is here for a moment: as the worker's ends, see making.
                status = theirs.detach()
                undo.callback(servers.Kept(status).close)
            process_obj.forker.link.ask(process_obj, [status, *process_obj.endpoints.descriptors])
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
        self.endpoints = endpoints

    @property
    def model(self) -> tuple[Any, ...]:
        """What the forker is sent of it only when it has changed."""
        state = self.__dict__
        parent = state["_parent_pid"], state["_parent_name"], self._identity[:-1]
        return self.endpoints.terms, parent, state["_config"]

    def request(self, size: int) -> bytes:
        """The head of the message that asks for it; so many bytes of :meth:`dump` follow."""
        return forker.REQUEST.pack(self.endpoints.worker, self._identity[-1], size)

    def dump(self) -> bytes:
        """The process object, pickled, as a model of those to come."""
        return servers.dump(self, self)

    @staticmethod
    def _Popen(process_obj: Any) -> Popen:  # noqa: N802 - multiprocessing's name
        return Popen(process_obj)

    def __reduce__(self) -> tuple[Any, ...]:
        state = self.__dict__.copy()
        del state["forker"], state["endpoints"]
        state["_args"] = (self.endpoints.terms,)
        return forked.Worker.model, (state,)
