"""Dead processes that their parents may not live to collect: then this one has to, if they are its.

A host that is the first process of a container, or a subreaper, inherits the children of a server
that has ended. One that had died before, and was not collected, is a zombie of the host's from then
on, of which the standard library knows nothing. And a debugger that has one of the host's own
children may keep it from being collected for longer than its exit status is waited for.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable

from warmpool import forkguard

PATIENCE = 0.25
"""Seconds that who was killed with the leader of its group has to be dead."""
LOOK_AGAIN = 0.1
"""Seconds between two looks, as long as there are any."""


class Orphans:
    """Looks after the dead until they are collected, by whomever.

    *Threads:* any; never blocks. Without a lock (I12): who has taken a descriptor off the list has
    it for himself.

    Attributes:
        wake: Has somebody call :meth:`look` again and again. Must not block.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self.wake = wake
        self._watches: list[int] = []
        self._is_closed = False
        forkguard.enroll(self)

    def take(self, watch: int) -> None:
        """Look after a dead process.

        Args:
            watch: Its pidfd, or whatever tells of its death where there are none; closed here.
        """
        self._watches.append(watch)
        self.look()
        if len(self._watches) == 1:
            # Whoever looks may have seen none, and wait for nothing. Beside others, he was woken.
            self.wake()

    @property
    def look_again_in(self) -> float | None:
        """Seconds until the next look is due, None if there is nobody."""
        return LOOK_AGAIN if self._watches else None

    def look(self) -> None:
        """Collect those that are this process's by now, and let go of whoever is collected."""
        for _ in range(len(self._watches)):
            try:
                watch = self._watches.pop(0)
            except IndexError:
                return  # Another thread looks, too.
            if _is_collected(watch) or self._is_closed:
                os.close(watch)
            else:
                self._watches.append(watch)
        if self._is_closed and self._watches:
            self.look()  # It was closed while this thread had one of them.

    def close(self) -> None:
        """Look for the last time: whoever could be a parent of theirs has ended."""
        self.look()
        self._is_closed = True
        self.look()

    def close_after_fork(self) -> None:
        """See :mod:`warmpool.forkguard`."""
        while self._watches:
            os.close(self._watches.pop())


def _is_collected(watch: int) -> bool:
    if not hasattr(os, "P_PIDFD"):
        return True
    try:
        # By pidfd: the pid may be another's.
        return os.waitid(os.P_PIDFD, watch, os.WEXITED | os.WNOHANG) is not None
    except ChildProcessError:
        pass  # Another's child, or collected.
    except OSError:
        return True  # It is no pidfd.
    try:
        # Who waits to be collected still takes signals.
        signal.pidfd_send_signal(watch, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def collect_group(leader: int) -> None:
    """Collect what a child of this process has left that led a process group, and is dead.

    *Threads:* those that may block: where this process inherits orphans, for :data:`PATIENCE` at
    most.
    """
    if not hasattr(os, "waitid"):
        return  # macOS, before Python 3.13.
    give_up_at = time.monotonic() + PATIENCE
    # ECHILD: there are none, or they are the init process's.
    with contextlib.suppress(ChildProcessError):
        while True:
            collected = os.waitid(os.P_PGID, leader, os.WEXITED | os.WNOHANG)
            if collected is None and time.monotonic() >= give_up_at:
                break
            if collected is None:
                select.select((), (), (), 0.001)
