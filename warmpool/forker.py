"""What runs in a process that forks workers on request: a zygote, or a template.

It reads requests from its link, one after the other: a length, a pickled process object, and the
descriptors that go with it. The first of these is a socket that takes the new worker's pid with a
pidfd, or the negative of an error's number, and later the exit status. Each way out is marked
``# Way out:``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from warmpool import child

HEADER = "!I"
_HEADER = struct.Struct(HEADER)
NUMBER = struct.Struct("=q")
_DESCRIPTORS_AT_MOST = 250
_CHUNK = 1 << 18
"""Bytes received at once: room for them is made before they come."""

inherited: child.Inherited | None = None
"""What workers of this process have without its being sent to them, if they do."""

_handed: list[int] = []


class Handed:
    """A descriptor in a pickled process object, by its place among those handed over."""

    def __init__(self, index: int) -> None:
        self._index = index

    def detach(self) -> int:
        """The number here."""
        return _handed[self._index]


def worker(endpoints: child.Endpoints) -> None:
    """The target of a worker's process."""
    child.main(endpoints, inherited)


def end_with(function: Callable[[], int]) -> NoReturn:
    """Call the function, and end this process with the status that it gives.

    The frames below this one must not be returned to: they are those of the host, or of the
    template, whose hooks at exit and objects' finalizers are not to run here.
    """
    status = 1
    try:
        status = function()
    except BaseException:
        with contextlib.suppress(OSError):
            os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
    finally:
        os._exit(status)


def fork_on_trial() -> None:
    """Have all hooks of forks run."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)  # Way out: of a copy that was for the hooks only.
    # If there were other threads, it may have met a lock of theirs that nobody gives back to it.
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


class Forker:
    """Forks and collects.

    Args:
        link: Its end.
        mask: The signals that workers are to have blocked.
        release: Called in each worker: lets go of what only this process is to have.
    """

    def __init__(
        self, link: socket.socket, mask: set[Any], release: Callable[[], None] = lambda: None
    ) -> None:
        self._link = link
        self._mask = mask
        self._release = release
        self._statuses: dict[int, socket.socket] = {}
        # Invariant: where the exit status of each living worker goes.
        self._dispositions = {
            signal.SIGPIPE: signal.signal(signal.SIGPIPE, signal.SIG_IGN),
            signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda *_: None),
        }
        self._deaths, self._wakeup = os.pipe()
        os.set_blocking(self._deaths, False)
        os.set_blocking(self._wakeup, False)
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        mine = {signal.SIGINT, signal.SIGCHLD, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_SETMASK, mask - mine)

    def serve(self) -> None:
        """Fork until the link ends, and collect until the last worker has."""
        # No selector: with epoll a worker would hold a copy of it.
        ready = select.poll()
        ready.register(self._link, select.POLLIN)
        ready.register(self._deaths, select.POLLIN)
        asked = True
        while asked or self._statuses:
            for descriptor, _ in ready.poll():
                if descriptor == self._deaths:
                    self._collect()
                elif not self._answer():
                    asked = False
                    ready.unregister(self._link)

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
                    with writing:
                        _tell(writing, os.waitstatus_to_exitcode(status))

    def _answer(self) -> bool:
        """Do as the next request says; False if there is none to come."""
        header, descriptors, flags, _ = socket.recv_fds(
            self._link, _HEADER.size, _DESCRIPTORS_AT_MOST
        )
        header += self._receive(_HEADER.size - len(header))
        size = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else 0
        body = self._receive(size)
        if len(header) < _HEADER.size or len(body) < size:
            # Half a request: the host died in the middle. The workers that are left may be here
            # for long.
            for descriptor in descriptors:
                os.close(descriptor)
            return False
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if not descriptors:
            return True  # No descriptor left here. The host sees the end of the status's socket.
        status, *others = descriptors
        answers = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=status)
        if flags & socket.MSG_CTRUNC:
            # Not enough left for all of them.
            _tell(answers, -errno.EMFILE)
            answers.close()
            for descriptor in others:
                os.close(descriptor)
            return True
        parent, *handed = others
        try:
            pid = os.fork()
        except OSError as error:
            # No process left, say: that is one failed start.
            _tell(answers, -(error.errno or 1))
            answers.close()
        else:
            if pid == 0:
                # Way out: the worker's, with what multiprocessing makes of its end.
                end_with(lambda: self._be_a_worker(body, answers, parent, handed))
            self._statuses[pid] = answers
            _tell_of_birth(answers, pid)
        for descriptor in (parent, *handed):
            os.close(descriptor)
        return True

    def _receive(self, size: int) -> bytes:
        """So many bytes, or less if the link ends before that."""
        parts = []
        while size and (part := self._link.recv(min(size, _CHUNK))):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _be_a_worker(
        self, body: bytes, answers: socket.socket, parent: int, handed: list[int]
    ) -> int:
        signal.set_wakeup_fd(-1)
        for number, disposition in self._dispositions.items():
            signal.signal(number, disposition or signal.SIG_DFL)
        for end in (self._link, answers, *self._statuses.values()):
            end.close()
        os.close(self._deaths)
        os.close(self._wakeup)
        self._release()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        _handed[:] = handed
        process: Any = pickle.loads(body)
        _reseed()
        code: int = process._bootstrap(parent_sentinel=parent)
        return code


def _tell(answers: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # The host is gone, or no longer interested.
        answers.sendall(NUMBER.pack(number))


def _tell_of_birth(answers: socket.socket, pid: int) -> None:
    watch = None
    if hasattr(os, "pidfd_open"):
        # ENOSYS, EPERM: as in process.open_death_watch(). EMFILE: the host may have more luck.
        with contextlib.suppress(OSError):
            watch = os.pidfd_open(pid)
    if watch is None:
        _tell(answers, pid)
        return
    try:
        with contextlib.suppress(BrokenPipeError):
            socket.send_fds(answers, [NUMBER.pack(pid)], [watch])
    finally:
        os.close(watch)


def _reseed() -> None:
    # As the standard library does for its own generator, by a hook of forks: else all workers draw
    # the same numbers.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
