"""What a worker does before any code of the user's runs in it, the import of ``__main__`` included.

* It makes a process group of its own: a kill takes grandchildren along, and Ctrl-C at a terminal,
  which goes to the foreground group, reaches the host alone.
* It ignores SIGINT, which was blocked until here by inheritance from the thread that started the
  process: there was no disposition yet that could be changed.
* It lets go of the terminal: it reads from ``/dev/null``, and is not stopped for touching it, as
  the kernel would have it for a group in the background.
* It ties itself to its host by the lifeline, a channel on which nobody ever writes. On Linux the
  kernel is told to send SIGKILL to the whole group when the host's end closes: nothing has to run
  in the worker for that, so it works while a task holds the GIL, or when the worker is stopped.
* It has ``faulthandler`` write stacks into the flight recorder: of a crash, and whenever the host
  asks by a signal. Both work with the GIL held.

All of that happens when :class:`Early` is unpickled, the first of a worker's arguments. A process
that forks workers has done it for them, but for what must be each one's own: see
:meth:`Installed.exchange`. What a new process costs is mostly the pages that it has to copy, and it
has to copy whatever it touches.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import select
import signal
from multiprocessing.connection import Connection
from typing import Any

from warmpool import payload, recorder

_installed: list[Installed] = []


class Installed:
    """What the rest of the worker needs of it.

    Args:
        lifeline: The worker's end.
        stacks: Where its fault handler writes.
        record: Its view of the flight recorder; None in what is none itself.
    """

    __slots__ = ("_recorder", "_stacks", "lifeline")

    def __init__(self, lifeline: int, stacks: int, record: recorder.Recorder | None) -> None:
        self.lifeline = lifeline
        self._stacks = stacks
        self._recorder = record

    @property
    def recorder(self) -> recorder.Recorder:
        """The worker's own."""
        assert self._recorder is not None
        return self._recorder

    def pass_on(self) -> None:
        """Have forks of this process inherit it, for :meth:`exchange`."""
        # Once more: code of the user's has run since.
        _ignore_the_terminal()
        _write_stacks(self._stacks)
        global _stacks_are_passed_on
        _stacks_are_passed_on = True

    def let_be(self) -> None:
        """In such a fork: write no stacks into what is another process's."""
        with contextlib.suppress(OSError):
            os.dup2(2, self._stacks, inheritable=False)

    def exchange(self, descriptors: list[int]) -> list[int]:
        """In such a fork, which is to be a worker: have its own.

        Args:
            descriptors: The worker's end of its lifeline, its flight recorder, and others.

        Returns:
            Those others, some of them under another number.
        """
        global _stacks_are_passed_on
        _stacks_are_passed_on = False
        if os.getpgrp() != os.getpid():  # Else a hook of forks has made a session already.
            os.setpgid(0, 0)
        if self._recorder is not None:
            self._recorder.close()
        # To the same numbers: the fault handler need not be told. If code of the user's has closed
        # those, something may have got them that was received just now.
        numbers = (self.lifeline, self._stacks)
        for index, descriptor in enumerate(descriptors):
            if descriptor in numbers:
                moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, max(numbers) + 1)
                descriptors[index] = moved
        for descriptor, number in zip(descriptors, numbers, strict=False):
            os.dup2(descriptor, number, inheritable=False)
            os.close(descriptor)
        with contextlib.suppress(OSError):
            _die_with_the_host(self.lifeline)
        self._recorder = recorder.Recorder(self._stacks)
        self._recorder.note_stacks_to_be_had()
        _installed[:] = [self]
        return descriptors[2:]


_stacks_are_passed_on = False


class Early:
    """Travels in the arguments of a worker's process, and takes effect as it is unpickled.

    Args:
        lifeline: The worker's end.
        recorder: The flight recorder's descriptor.
    """

    def __init__(self, lifeline: Connection, recorder: payload.Descriptor) -> None:
        self._lifeline = lifeline
        self._recorder = recorder

    @property
    def descriptors(self) -> tuple[int, int]:
        """In the host: what :meth:`Installed.exchange` takes."""
        return self._lifeline.fileno(), self._recorder.detach()

    def tie(self, pid: int) -> None:
        """In the host: tie a process that has not come to that yet, and may be stopped before."""
        with contextlib.suppress(OSError):
            kill_at_end_of(self._lifeline.fileno(), pid)

    def __reduce__(self) -> tuple[Any, ...]:
        return _install, (self._lifeline, self._recorder)


def installed() -> Installed:
    """What :class:`Early` has installed in this process. Once: it is handed over."""
    return _installed.pop()


def _install(lifeline: Connection, descriptor: payload.Descriptor) -> None:
    os.setpgid(0, 0)
    _ignore_the_terminal()
    # A number of its own, that no finalizer closes.
    end = os.dup(lifeline.fileno())
    lifeline.close()
    with contextlib.suppress(OSError):
        _die_with_the_host(end)
    # The same: spawn keeps the host's numbers, which a limit that is set here may not allow.
    number = os.dup(descriptor.detach())
    os.close(descriptor.detach())
    _write_stacks(number)
    # Until here that signal would have ended the process.
    record = recorder.Recorder(number)
    record.note_stacks_to_be_had()
    _installed[:] = [Installed(end, number, record)]


def placeholder() -> Installed:
    """For a process that is to fork workers and is not started as one."""
    lifeline, stacks = (os.open(os.devnull, os.O_WRONLY) for _ in range(2))
    return Installed(lifeline, stacks, None)


def _ignore_the_terminal() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _let_go_of_the_terminal()


def _let_go_of_the_terminal() -> None:
    signal.signal(signal.SIGTTIN, signal.SIG_IGN)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDONLY)
    if null != 0:
        os.dup2(null, 0)
        os.close(null)


def _die_with_the_host(lifeline: int) -> None:
    # Not PR_SET_PDEATHSIG: that follows the thread that forked this process, in a server for most
    # start methods, and workers survive that.
    kill_at_end_of(lifeline, -os.getpgrp())
    if hasattr(fcntl, "F_SETSIG"):
        # What ended before that sends no signal.
        poll = select.poll()
        poll.register(lifeline, 0)
        if poll.poll(0):
            os._exit(1)


def kill_at_end_of(lifeline: int, whom: int) -> None:
    """Have the kernel send SIGKILL to a process, or to a group (negative), at the end of that.

    Raises:
        OSError: The descriptor, or the process, is not there.
    """
    # Signal-driven I/O: an event on the descriptor sends a signal, F_SETSIG says which. The one
    # event that the lifeline ever has is its end.
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, whom)
        flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)


def _write_stacks(descriptor: int) -> None:
    faulthandler.enable(descriptor)
    faulthandler.register(recorder.STACK_SIGNAL, descriptor, chain=False)
    # What a task forks is not the worker: it shares the descriptor, and its crash is its own.
    os.register_at_fork(after_in_child=_write_no_stacks)


def _write_no_stacks() -> None:
    if not _stacks_are_passed_on:
        faulthandler.disable()
        faulthandler.unregister(recorder.STACK_SIGNAL)
