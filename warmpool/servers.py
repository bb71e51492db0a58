"""Processes of the host's that fork workers on request: a fork server, a zygote.

The host asks one for a worker, reads the worker's pid from a pipe and, later, its exit status from
the same. A server is a child of the host's that may die, or stop, at any time; here is how it is
watched, killed and buried without a wait that has no bound.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import signal
import threading
import time
from multiprocessing import context, forkserver, popen_forkserver, reduction, util
from multiprocessing.connection import wait
from typing import Any

from warmpool import forkguard

END_PATIENCE = 2.0
"""Seconds that a killed server has to be gone. One in an uninterruptible sleep needs longer, and
one that took other privileges cannot be killed at all: it ends at the end of its alive pipe."""

_POLL = 0.01
_MOST = (1 << 31) - 1


def is_readable(descriptor: int) -> bool:
    """Whether it is, or at its end. ``connection.wait()`` takes ten times as long to find out."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


class ServerProcess:
    """A child of the host's, to be watched and killed. *Threads:* any.

    Args:
        pid: The child's, alive or not collected.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        # A kill on the supervisor's thread must not hit a number that the launcher's has closed.
        self._lock = threading.Lock()
        self._collected = False
        self._watch: int | None = None
        if hasattr(os, "pidfd_open"):
            with forkguard.making(), contextlib.suppress(OSError):
                # ENOSYS, EPERM: as in process.open_death_watch().
                self._watch = os.pidfd_open(pid)
                forkguard.enroll(self)

    def has_died(self) -> bool:
        """Whether it is dead; then its status may have been collected."""
        with self._lock:
            if self._watch is not None:
                return is_readable(self._watch)
            return self._collect()

    def kill(self) -> None:
        """SIGKILL it, if that is possible. Never blocks."""
        # PermissionError: the host has given its privileges up since.
        with self._lock, contextlib.suppress(ProcessLookupError, PermissionError):
            if self._watch is not None:
                signal.pidfd_send_signal(self._watch, signal.SIGKILL)
            elif not self._collect():
                os.kill(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill and collect it; leaves it to itself if it is not gone within the patience."""
        self.kill()
        give_up_at = time.monotonic() + END_PATIENCE
        while not self.has_died() and (left := give_up_at - time.monotonic()) > 0:
            if self._watch is not None:
                wait([self._watch], left)
            else:
                select.select([], [], [], min(_POLL, left))
        with self._lock:
            self._collect()
            watch, self._watch = self._watch, None
            if watch is not None:
                os.close(watch)

    def _collect(self) -> bool:
        if not self._collected:
            try:
                self._collected = os.waitpid(self.pid, os.WNOHANG)[0] != 0
            except ChildProcessError:
                self._collected = True  # By somebody else's waitpid(-1), or an ignored SIGCHLD.
        return self._collected

    def close_after_fork(self) -> None:
        """See :mod:`warmpool.forkguard`."""
        watch, self._watch, self._collected = self._watch, None, True
        if watch is not None:
            os.close(watch)


def dump(popen: Any, *values: Any) -> bytes:
    """Pickle what a process is to get; the descriptors in it are noted in the popen object."""
    buffer = io.BytesIO()
    context.set_spawning_popen(popen)
    try:
        for value in values:
            reduction.dump(value, buffer)
    finally:
        context.set_spawning_popen(None)
    return buffer.getvalue()


def write(descriptor: int, body: bytes) -> None:
    """Give a new process what it is to read, if it lives. *Threads:* any; blocks."""
    # The host may have given SIGPIPE its default again, and is not to die of a dead child.
    with forkguard.signals_blocked((signal.SIGPIPE,)):
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(body)
        except BrokenPipeError:
            # It is dead, and will be found so.
            if hasattr(signal, "sigtimedwait"):
                signal.sigtimedwait((signal.SIGPIPE,), 0)


def check_pid(answer: int) -> int:
    """What a server answers to a request: the new process's pid, and nothing else.

    Raises:
        OSError: It could not fork, and answers with the negative of the error's number; or what it
            answers can be neither, since somebody else has written there.
    """
    # It is data (I13), and what is taken for a pid gets signals.
    if 0 < answer <= _MOST:
        return answer
    if -_MOST <= answer < 0:
        raise OSError(-answer, f"the server cannot fork: {os.strerror(-answer)}")
    raise OSError(errno.EPROTO, f"the server has answered what is no pid: {answer}")


class Kept:
    """Descriptors that live as long as a process object."""

    def __init__(self, *descriptors: int) -> None:
        self._descriptors = list(descriptors)
        forkguard.enroll(self)

    def add(self, descriptor: int) -> None:
        """Keep one more."""
        self._descriptors.append(descriptor)

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())

    def take(self) -> int | None:
        """Have one of them; it is the caller's to close from now on. None: there is none left."""
        return self._descriptors.pop() if self._descriptors else None

    def close_after_fork(self) -> None:
        """See :mod:`warmpool.forkguard`."""
        self.close()


class Watch(Kept):
    """A descriptor that is readable once a server is dead."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self.descriptor = descriptor


class _Status(Kept):
    """Where an exit status is read. Closed with the last reference: somebody may be reading it."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self.descriptor = descriptor

    def __del__(self) -> None:
        with contextlib.suppress(OSError):  # The application has closed what it does not know.
            self.close()


class Popen(popen_forkserver.Popen):
    """What ``multiprocessing`` holds of a process that a server has forked."""

    _status: _Status | None = None

    def __init__(self, process_obj: Any) -> None:
        # Not the base's, which flushes the host's streams: nothing is copied from the host here,
        # and another thread may hold a stream's lock for as long as nobody reads its pipe.
        self._fds: list[int] = []
        self.returncode: int | None = None
        self._kept = Kept()
        self.finalizer: Any = util.Finalize(self, self._kept.close)
        self._launch(process_obj)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """As its base."""
        # At each start multiprocessing asks this of all processes that there are, on whatever
        # thread. As long as this one has a reference, the number is not that of a worker's channel,
        # from which a status would be read.
        held = self._status
        if self.returncode is None and held is not None:
            if flag == os.WNOHANG and not is_readable(held.descriptor):
                return None
            super().poll(flag)
        returncode: int | None = self.returncode
        return returncode

    def close(self) -> None:
        """As its base."""
        self._status = None
        super().close()

    def _launch(self, process_obj: Any) -> None:
        """Ask a server for the process, and :meth:`read_pid`."""
        raise NotImplementedError

    def keep(self, descriptor: int) -> None:
        """Hold this too until :meth:`close`. At once: the next one may not be to be had."""
        self._kept.add(descriptor)

    def keep_status(self, descriptor: int) -> None:
        """Hold that on which the pid and, later, the exit status come."""
        self.sentinel, self._status = descriptor, _Status(descriptor)

    def read_pid(self) -> None:
        """Wait for the server's answer.

        Raises:
            EOFError: It has died.
            OSError: It could not fork, or its pipe broke.
        """
        answer: int = forkserver.read_signed(self.sentinel)
        self.pid = check_pid(answer)
