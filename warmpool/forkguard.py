"""What a fork of the host must not take along (I7).

A forked copy of the host, be it a zygote (see :mod:`warmpool.zygote`) or a child that the
application forked, holds copies of all the supervisor's ends. With those a worker would not notice
the death of its host while any such copy lives. So every object that owns such an end is enrolled
here, and a hook closes the copies in each forked child.

The other way round, a copy that is made while another thread of the host starts a subprocess would
hold that one's pipes: ``Popen()`` waits for the end of file of one of them, and ``communicate()``
for that of another, as long as the copy and its workers live. And a module that another thread was
importing is half there in the copy, for ever. Such a moment is waited out.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from multiprocessing import resource_tracker, util
from typing import Any, Protocol

from warmpool import mending


class Guarded(Protocol):
    """Owns descriptors, or threads, that a forked copy must not use."""

    def close_after_fork(self) -> None:
        """In the forked child: let go of them. Other threads' locks may be held for ever."""


FORK_PATIENCE = 0.1
"""Seconds that a fork of the application waits for an end that is being made. It takes
milliseconds."""


class _Making:
    """Held while an end is made and enrolled, and while the host is copied.

    Without it the host could be copied, for another pool or by the application, between the making
    of an end and its enrolment.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._held_for_fork = False

    def __enter__(self) -> None:
        self._lock.acquire()
        self._owner = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._owner = None
        self._lock.release()

    def before_fork(self) -> None:
        # Not for ever: the thread that makes one may be stopped. And not if this one does: it
        # copies the host, or a signal handler forks.
        if self._owner != threading.get_ident():
            self._held_for_fork = self._lock.acquire(timeout=FORK_PATIENCE)

    def after_fork_in_parent(self) -> None:
        if self._held_for_fork:
            self._held_for_fork = False
            self._lock.release()


_making = _Making()
_enrolled: weakref.WeakSet[Guarded] = weakref.WeakSet()


def making() -> contextlib.AbstractContextManager[None]:
    """What to be in while making and enrolling ends, and while copying the host."""
    return _making


def enroll(guarded: Guarded) -> None:
    """Let go of it in every fork of this process."""
    _enrolled.add(guarded)


def _after_fork_in_child() -> None:
    _making.__init__()  # type: ignore[misc]
    for guarded in list(_enrolled):
        # Another thread may have closed a descriptor and not have noted it when we were copied.
        with contextlib.suppress(OSError):
            guarded.close_after_fork()
    _enrolled.clear()


os.register_at_fork(
    before=_making.before_fork,
    after_in_parent=_making.after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)


# ------------------------------------------------------------------- before a process is started


@contextlib.contextmanager
def signals_blocked(signals: Iterable[int] = (signal.SIGINT,)) -> Iterator[set[Any]]:
    """Around the start of a process that is going to ignore SIGINT; gives the mask before."""
    # A child inherits the mask through fork and exec, and unblocks SIGINT once it ignores it: a
    # Ctrl-C meant for the host must not hit its imports. The resource tracker is asked for first
    # since starting it unblocks SIGINT (CPython 3.11), and for a copy of the host to share it.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


QUIET_PATIENCE = 2.0
"""Seconds that a copy waits for other threads to be done with what it must not catch them at."""

_STARTS_A_PROCESS = frozenset({subprocess.Popen.__init__.__code__, util.spawnv_passfds.__code__})


def wait_for_quiet(give_up_at: float) -> None:
    """Wait until :func:`is_quiet`, but not past a time on the monotonic clock."""
    # There is no event to wait for; the other threads know nothing of us.
    while not is_quiet() and time.monotonic() < give_up_at:
        time.sleep(0.001)


def is_quiet() -> bool:
    """Whether no other thread is starting a process or importing a module."""
    return not mending.others_import() and not _others_start_a_process()


def _others_start_a_process() -> bool:
    frames = sys._current_frames()
    # In a variable of its own, a frame would be a circle, with all that called it: the pool that is
    # being made would not end when it is forgotten, but when the garbage collector comes by.
    frames.pop(threading.get_ident(), None)
    for at in frames.values():
        while at is not None:
            if at.f_code in _STARTS_A_PROCESS:
                return True
            at = at.f_back  # type: ignore[assignment]
    return False
