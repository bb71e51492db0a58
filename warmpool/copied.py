"""The life of a zygote: what runs in the copy of the host that forks the workers.

It reads requests from its link, one after the other: a length, a pickled process object, and the
descriptors that go with it. The first of these takes the new worker's pid, or the negative of an
error's number, and later its exit status. Each way out is marked ``# Way out:``.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import struct
import traceback
from collections.abc import Callable
from multiprocessing import forkserver
from typing import Any, NoReturn

from warmpool import child, mending, payload

HEADER = "!I"
_HEADER = struct.Struct(HEADER)
_DESCRIPTORS_AT_MOST = 250

_initializer: payload.Initializer | None = None
_handed: list[int] = []


class Handed:
    """A descriptor in a pickled process object, by its place among those handed over."""

    def __init__(self, index: int) -> None:
        self._index = index

    def detach(self) -> int:
        """The number here."""
        return _handed[self._index]


def main(endpoints: child.Endpoints) -> None:
    """The target of a worker's process."""
    endpoints.initializer = _initializer
    child.main(endpoints)


def live(link: socket.socket, initializer: payload.Initializer, mask: set[Any]) -> NoReturn:
    """Be a zygote, until the host closes the link or is gone.

    Args:
        link: The zygote's end.
        initializer: The workers'.
        mask: Signals that the host had blocked. Now all are.
    """

    def serve() -> int:
        global _initializer
        _initializer = initializer
        mending.mend()
        _Zygote(link, mask).serve()
        return 0

    # Way out: nobody waits for workers any more. Or an error of ours: the next start finds out.
    _run(serve)


def _run(function: Callable[[], int]) -> NoReturn:
    # The host's frames below this one must not be returned to, and neither its hooks at exit nor
    # its objects' finalizers run here.
    status = 1
    try:
        status = function()
    except BaseException:
        with contextlib.suppress(OSError):
            os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
    finally:
        os._exit(status)


class _Zygote:
    def __init__(self, link: socket.socket, mask: set[Any]) -> None:
        self._link = link
        self._statuses: dict[int, int] = {}
        # Invariant: where the exit status of each living worker goes.
        _drop_handlers()
        # Of its own: what a terminal sends to the foreground group is meant for the host.
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._dispositions = {
            signal.SIGPIPE: signal.signal(signal.SIGPIPE, signal.SIG_IGN),
            signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda *_: None),
        }
        self._deaths, self._wakeup = os.pipe()
        os.set_blocking(self._deaths, False)
        os.set_blocking(self._wakeup, False)
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        # Workers unblock SIGINT once they ignore it.
        self._mask = mask | {signal.SIGINT}
        mine = {signal.SIGINT, signal.SIGCHLD, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_SETMASK, mask - mine)

    def serve(self) -> None:
        """Fork and collect until the link ends."""
        # No selector: with epoll a worker would hold a copy of it.
        ready = select.poll()
        ready.register(self._link, select.POLLIN)
        ready.register(self._deaths, select.POLLIN)
        while True:
            for descriptor, _ in ready.poll():
                if descriptor == self._deaths:
                    self._collect()
                elif not self._answer():
                    return

    def _collect(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._deaths, 1 << 16)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                # Or somebody's, who starts processes in a hook of forks.
                if (writing := self._statuses.pop(pid, None)) is not None:
                    _tell(writing, os.waitstatus_to_exitcode(status))
                    os.close(writing)

    def _answer(self) -> bool:
        """Do as the next request says; False if there is none to come."""
        header, descriptors, _, _ = socket.recv_fds(self._link, _HEADER.size, _DESCRIPTORS_AT_MOST)
        header += self._receive(_HEADER.size - len(header))
        if len(header) < _HEADER.size:
            return False
        (size,) = _HEADER.unpack(header)
        body = self._receive(size)
        if len(body) < size:
            return False
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if len(descriptors) < 2:
            # No descriptor left here. The host sees the end of the status's pipe.
            for descriptor in descriptors:
                os.close(descriptor)
            return True
        status, parent, *handed = descriptors
        try:
            pid = os.fork()
        except OSError as error:
            # No process left, say: that is one failed start.
            _tell(status, -(error.errno or 1))
            os.close(status)
        else:
            if pid == 0:
                # Way out: the worker's, with what multiprocessing makes of its end.
                _run(lambda: self._be_a_worker(body, status, parent, handed))
            self._statuses[pid] = status
            _tell(status, pid)
        for descriptor in (parent, *handed):
            os.close(descriptor)
        return True

    def _receive(self, size: int) -> bytes:
        """So many bytes, or less if the link ends before that."""
        parts = []
        while size and (part := self._link.recv(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _be_a_worker(self, body: bytes, status: int, parent: int, handed: list[int]) -> int:
        signal.set_wakeup_fd(-1)
        for number, disposition in self._dispositions.items():
            signal.signal(number, disposition or signal.SIG_DFL)
        self._link.close()
        for descriptor in (self._deaths, self._wakeup, status, *self._statuses.values()):
            os.close(descriptor)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        _handed[:] = handed
        process: Any = pickle.loads(body)
        code: int = process._bootstrap(parent_sentinel=parent)
        return code


def _tell(status: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # The host is gone, or no longer interested.
        forkserver.write_signed(status, number)


def _drop_handlers() -> None:
    # The host's are not to run here.
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
