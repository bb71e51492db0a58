"""What a fork of the host must not take along (I7).

A forked copy of the host, be it a worker under ``fork`` or a child that the application forked,
holds copies of all the supervisor's ends. With those a worker would not notice the death of its
host while any sibling lives. So every object that owns such an end is enrolled here, and a hook
closes the copies in each forked child.

The other way round, a worker that is forked while another thread of the host starts a subprocess
would hold copies of that one's pipes: ``Popen()`` waits for the end of file of one of them, and
``communicate()`` for that of another, as long as the worker lives. Workers are forked in the
background, at moments that nobody chose; so such a moment is waited out.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from multiprocessing import util
from typing import Protocol


class Guarded(Protocol):
    """Owns descriptors, or threads, that a forked copy must not use."""

    def close_after_fork(self) -> None:
        """In the forked child: let go of them. Other threads' locks may be held for ever."""


class _Making:
    """Held while an end is made and enrolled, and while a worker is forked.

    Without it a worker of one pool could be forked between the making of another pool's end and
    its enrolment.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()


_making = _Making()
_enrolled: weakref.WeakSet[Guarded] = weakref.WeakSet()


def making() -> threading.Lock:
    """The lock to hold while making and enrolling ends, and while forking a worker."""
    return _making.lock


def enroll(guarded: Guarded) -> None:
    """Let go of it in every fork of this process."""
    _enrolled.add(guarded)


# ---------------------------------------------------------------- what a worker must not take along

QUIET_PATIENCE = 2.0
"""Seconds that a fork waits for other threads to be done with starting theirs."""

_STARTS_A_PROCESS = frozenset({subprocess.Popen.__init__.__code__, util.spawnv_passfds.__code__})
_forking = threading.local()


@contextlib.contextmanager
def forking_a_worker() -> Iterator[None]:
    """Around the fork of a worker."""
    with making():
        _forking.worker = True
        try:
            yield
        finally:
            _forking.worker = False


def _before_fork() -> None:
    # Here and not before Process.start(): nothing comes between this and the fork. There is no
    # event to wait for; the other threads know nothing of us.
    if getattr(_forking, "worker", False):
        give_up_at = time.monotonic() + QUIET_PATIENCE
        while _others_start_a_process() and time.monotonic() < give_up_at:
            time.sleep(0.001)


def _others_start_a_process() -> bool:
    me = threading.get_ident()
    for thread, frame in sys._current_frames().items():
        at = frame if thread != me else None
        while at is not None:
            if at.f_code in _STARTS_A_PROCESS:
                return True
            at = at.f_back
    return False


_parents_stdin: list[object] = []


def _replace_stdin() -> None:
    # multiprocessing closes sys.stdin in a new worker, and waits for ever for its lock if a thread
    # of the host was reading at the moment of the fork. So it gets another one to close, and the
    # host's is kept, since its destructor takes the lock too.
    _parents_stdin.append(sys.stdin)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115


def _after_fork_in_child() -> None:
    _making.lock = threading.Lock()
    if getattr(_forking, "worker", False):
        _replace_stdin()
    for guarded in list(_enrolled):
        # Another thread may have closed a descriptor and not have noted it when we were copied.
        with contextlib.suppress(OSError):
            guarded.close_after_fork()
    _enrolled.clear()


os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
