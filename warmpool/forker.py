"""What runs in a process that forks workers on request: a zygote, or a template.

It reads requests from its link, one after the other: a worker's number, that which
``multiprocessing`` has given to its process, and its descriptors. What workers have in common comes
once, and again when it has changed: a pickled process object, the model. The first descriptor
is a socket that takes the new worker's pid with a pidfd, or the negative of an error's number, and
later the exit status.

A template is one fork ahead: a spare waits to be told which worker it is, as far on its way as it
can be without that. Half of a start, and all that depends on how large the template is, is over
before it is asked for. The spare is no worker, and runs nothing of the user's but hooks of forks.

Here a page counts for more than a call. Each that this process or a worker is the first to write to
after a fork is copied, and a reference to an object is a write to its page; a start consists of
little else. So whatever can be done once, before, is. Each way out is marked ``# Way out:``.
"""

from __future__ import annotations

import array
import atexit
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
import weakref
from collections.abc import Callable
from multiprocessing import util
from typing import Any, NoReturn

from warmpool import child, early, endpoint
from warmpool.forked import NO_SIGNAL, ORDER, Fork, Worker, receive

REQUEST = struct.Struct("=QQI")
"""The worker's number, its process's, and how many bytes of a model follow; none: it is known."""
NUMBER = struct.Struct("=q")
_CHUNK = 1 << 18
"""Bytes received at once: room for them is made before they come."""
_LOOK_EVERY = 0.01
"""Seconds between two looks after workers that have no pidfd."""

inherited: child.Inherited | None = None
"""What workers of this process have without its being sent to them, if they do."""


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
    with contextlib.suppress(ChildProcessError):  # Who ignores SIGCHLD has nobody to collect.
        os.waitpid(pid, 0)


def _forget_hooks_at_exit() -> None:
    # As after any fork, a worker runs the hooks at exit that it has set itself. Else the first to
    # leave would delete the preload's temporary files, which all share. This process runs none.
    atexit._clear()
    # One of them is multiprocessing's, which runs Finalize hooks: from 3.13 on the only one to.
    atexit.register(util._exit_function)  # type: ignore[attr-defined]
    # weakref's would be set again by the first finalizer that is made, and run all of them.
    registry = getattr(weakref.finalize, "_registry", {})
    for finalizer in registry.values():
        finalizer.atexit = False
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]


class Forker:
    """Forks and collects.

    Args:
        link: Its end.
        installed: What each worker exchanges for its own.
        is_ahead: Whether there is to be a spare.
    """

    def __init__(
        self, link: socket.socket, installed: early.Installed, *, is_ahead: bool = False
    ) -> None:
        self._link = link
        self._installed = installed
        self._is_ahead = is_ahead
        self._model: Worker | None = None
        self._spare: Fork | None = None
        self._answers: dict[int, int] = {}
        # Invariant: where the exit status of each living worker goes, by its pid.
        self._watches: dict[int, int] = {}
        # Invariant: pidfds of those of them that have one here, and of the spare, by their pids.
        # No selector: with epoll a worker would hold a copy of it.
        self._ready = select.poll()
        self._ready.register(link, select.POLLIN)
        _forget_hooks_at_exit()
        installed.pass_on()
        util._close_stdin()  # type: ignore[attr-defined]
        signal.set_wakeup_fd(-1)  # Or all workers would write into the same pipe of the preload's.
        # Who ignores SIGCHLD gets no exit statuses, and somebody's handler might collect them.
        self._dispositions = {signal.SIGCHLD: signal.signal(signal.SIGCHLD, signal.SIG_DFL)}
        if not NO_SIGNAL:
            before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            self._dispositions[signal.SIGPIPE] = before
        if self._dispositions[signal.SIGCHLD] is signal.SIG_DFL:
            del self._dispositions[signal.SIGCHLD]
        mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        self._blocks = mask & {signal.SIGTERM}

    def serve(self) -> None:
        """Fork until the link ends, and collect until the last worker has."""
        link = self._link.fileno()
        asked = True
        while asked or self._answers:
            # Some may have no pidfd: see _watch().
            are_watched = self._answers.keys() <= self._watches.keys()
            pause = None if are_watched else _LOOK_EVERY * 1e3
            ready = [descriptor for descriptor, _ in self._ready.poll(pause)]
            if ready != [link]:
                self._collect()
                self._bury(ready)
            if link in ready:
                asked = self._answer()
                if asked:
                    self._get_ahead()
                else:
                    self._ready.unregister(link)
                    self._dismiss_spare()

    # ------------------------------------------------------------------ their ends

    def _collect(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                # Or somebody's, who starts processes in a hook of forks.
                if pid in self._answers:
                    _tell(self._answers[pid], os.waitstatus_to_exitcode(status))
                self._let_go(pid)

    def _bury(self, ready: list[int]) -> None:
        """Let go of those that such a hook has collected: their pidfds stay readable."""
        for pid, watch in list(self._watches.items()):
            if watch in ready:
                try:
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                except ChildProcessError:
                    self._let_go(pid)

    def _let_go(self, pid: int) -> None:
        if (answers := self._answers.pop(pid, None)) is not None:
            os.close(answers)
        if (watch := self._watches.pop(pid, None)) is not None:
            self._ready.unregister(watch)
            os.close(watch)
        if self._spare is not None and self._spare.pid == pid:
            self._spare.forget()
            self._spare = None

    # ------------------------------------------------------------------ requests

    def _answer(self) -> bool:
        """Do as the next request says; False if there is none to come."""
        head, descriptors, is_complete = receive(self._link, REQUEST.size)
        if len(head) < REQUEST.size:
            head += self._receive(REQUEST.size - len(head))
        size = REQUEST.unpack(head)[-1] if len(head) == REQUEST.size else 1
        model = self._receive(size) if size else b""
        if len(model) < size:
            # Half a request: the host died in the middle. The workers that are left may be here
            # for long.
            for descriptor in descriptors:
                os.close(descriptor)
            return False
        if model:
            self._dismiss_spare()
            self._model = pickle.loads(model)
        if not descriptors:
            return True  # No descriptor left here. The host sees the end of the answers' socket.
        answers, *ends = descriptors
        try:
            if not is_complete:
                raise OSError(errno.EMFILE, "not enough left for all of them")
            pid = self._fork_for(head[: ORDER.size], answers, ends)
        except OSError as error:
            # No process left, say: that is one failed start.
            _tell(answers, -(error.errno or 1))
            os.close(answers)
        else:
            self._answers[pid] = answers
            watch = self._watches.get(pid)
            _tell(answers, pid, *(() if watch is None else (watch,)))
        for descriptor in ends:
            os.close(descriptor)
        return True

    def _receive(self, size: int) -> bytes:
        """So many bytes, or less if the link ends before that."""
        parts = []
        while size and (part := self._link.recv(min(size, _CHUNK))):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    # ------------------------------------------------------------------ forks

    def _get_ahead(self) -> None:
        if self._is_ahead and self._spare is None and self._model is not None:
            # If there is no process left, the next request tries again, and is told.
            with contextlib.suppress(OSError):
                self._spare = self._fork(is_spare=True)

    def _dismiss_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.dismiss()

    def _fork_for(self, order: bytes, answers: int, ends: list[int]) -> int:
        """The pid of a fork that has been told that order.

        Raises:
            OSError: There is none to be had.
        """
        spare, self._spare = self._spare, None
        if spare is not None and spare.tell(order, ends):
            return spare.pid
        # The copies that it inherits of these are not for it.
        fork = self._fork(answers, *ends)
        # If it is dead, that is told by its exit status.
        fork.tell(order, ends)
        return fork.pid

    def _fork(self, *foreign: int, is_spare: bool = False) -> Fork:
        """Fork, and close these descriptors in the fork."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.settimeout(None)  # Whatever the preload has made the default.
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            # Way out: the worker's, with what multiprocessing makes of its end.
            end_with(lambda: self._be_a_fork(theirs, (ours.detach(), *foreign), is_spare))
        theirs.close()
        self._watch(pid)
        return Fork(pid, ours)

    def _watch(self, pid: int) -> None:
        if hasattr(os, "pidfd_open"):
            # ENOSYS, EPERM: as in process.open_death_watch(). EMFILE: the host may have more luck.
            with contextlib.suppress(OSError):
                watch = self._watches[pid] = os.pidfd_open(pid)
                self._ready.register(watch, select.POLLIN)

    def _be_a_fork(self, orders: socket.socket, foreign: tuple[int, ...], is_spare: bool) -> int:
        self._installed.let_be()
        os.close(self._link.detach())
        for descriptors in (foreign, self._answers.values(), self._watches.values()):
            for descriptor in descriptors:
                os.close(descriptor)
        for number, disposition in self._dispositions.items():
            signal.signal(number, disposition or signal.SIG_DFL)
        if self._blocks:
            signal.pthread_sigmask(signal.SIG_BLOCK, self._blocks)
        worker = self._model
        assert worker is not None
        worker.orders = orders
        worker.is_spare = is_spare
        worker.installed = self._installed
        if is_spare:
            worker.name = f"{worker.terms.pool}-spare"
        else:
            worker.listen()
        _reseed()
        # multiprocessing would make another of it, as it has done in this process: to hide it is
        # cheaper.
        worker.stdin, sys.stdin = sys.stdin, None
        bootstrap: Any = worker._bootstrap  # type: ignore[attr-defined]
        return int(bootstrap(parent_sentinel=self._installed.lifeline))


def _tell(answers: int, number: int, *descriptors: int) -> None:
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    end = endpoint.Socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, answers)
    try:
        end.sendmsg([NUMBER.pack(number)], [rights] if descriptors else [], NO_SIGNAL)
    except BrokenPipeError:
        pass  # The host is gone, or no longer interested.
    except OSError:
        # ETOOMANYREFS, say: too many descriptors are on their way. The host can open its own.
        if not descriptors:
            raise
        _tell(answers, number)
    finally:
        end.detach()


def _reseed() -> None:
    # As the standard library does for its own generator, by a hook of forks: else all workers draw
    # the same numbers.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
