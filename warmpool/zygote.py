"""``fork``: a copy of the host, made once, forks the workers.

Were each worker forked from the host itself, it would be copied at a moment that nobody chose, with
whatever locks and half-made pipes the other threads had just then. So the host is copied once, in
the pool's constructor, on the thread of its caller; the copy, the zygote, has one thread and does
nothing but fork workers and collect them (see :mod:`warmpool.copied`).

The link to it is one end of a pair of sockets, which nobody but the host holds: at its end of file
the zygote ends. One that is stopped does not see that, and is tied to the host besides (see
:mod:`warmpool.tie`). A zygote that died is replaced by another copy, made on the launcher's thread.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from warmpool import child, copied, forkguard, forking, mending, servers
from warmpool.plan import News, Plan, refuse_reload
from warmpool.tie import Tie


class Zygote:
    """The host's side of one. Making it copies the host.

    Args:
        inherited: What its workers inherit.

    Raises:
        OSError: The system has no process, descriptor or memory left.
    """

    def __init__(self, inherited: child.Inherited) -> None:
        give_up_at = time.monotonic() + forkguard.QUIET_PATIENCE
        while True:
            forkguard.wait_for_quiet(give_up_at)
            mending.flush_strange_streams()
            self._copy(inherited)
            if time.monotonic() >= give_up_at or forkguard.is_quiet():
                break
            # Another thread may have begun between the look and the fork.
            self.end()

    def _copy(self, inherited: child.Inherited) -> None:
        # All of them: a handler of the host's (an arbiter's SIGTERM, say) must not run in the copy.
        everything = signal.valid_signals()
        with forkguard.signals_blocked(everything) as mask:
            with forkguard.making():
                ours, theirs = socket.socketpair()
                self.link = forking.Link(ours)
                with theirs:
                    # Its hook closes the copy of our end, in this copy of the host as in all.
                    forkguard.enroll(self)
                    try:
                        pid = os.fork()
                    except BaseException:
                        self.link.close()
                        raise
                    if pid == 0:
                        copied.live(theirs, inherited, mask)
            self._tie_down(pid)

    def _tie_down(self, pid: int) -> None:
        self.process = servers.ServerProcess(pid)
        self._tie: Tie | None = None
        try:
            # Made only now: a copy that is stopped at once, before that hook, keeps what it has.
            with forkguard.making():
                self._tie = Tie()
            # It makes its group itself, too; but it may be stopped before that. And so may a worker
            # be that is of this group, for it has not made its own yet.
            with contextlib.suppress(OSError):
                os.setpgid(pid, pid)
            self._tie.fasten(-pid)
        except BaseException:
            self.end()
            raise

    def await_answer(self, status: int) -> None:
        """Nothing bounds it but :meth:`Fork.break_off`: it comes with the zygote's death, too."""
        wait([status])

    def end(self) -> None:
        """End it."""
        # First: by this one ends that may not be killed.
        self.link.close()
        self.process.end()
        if self._tie is not None:
            self._tie.close()

    def close_after_fork(self) -> None:
        """See :mod:`warmpool.forkguard`."""
        self.link.close()


class Fork:
    """See :class:`warmpool.start.StartMethod`."""

    name = "fork"
    via_server = True
    pickles = False

    def __init__(self) -> None:
        self._inherited = child.Inherited()
        self._making = threading.Lock()
        self._zygote: Zygote | None = None
        self._closed = False

    def open(self, plan: Plan, news: News) -> None:
        self._inherited = child.Inherited(plan.initializer, plan.preload)
        # No process left, say: it is tried again at the first start, whose error is reported.
        with contextlib.suppress(Exception):
            self._living_zygote()

    def _living_zygote(self) -> Zygote:
        with self._making:
            if self._zygote is not None and self._zygote.process.has_died():
                self._forget()
            if self._zygote is None:
                self._zygote = Zygote(self._inherited)
            zygote = self._zygote
        if self._closed:
            # The thread of a start that was left to itself comes to life when all is over.
            self._forget()
            raise ProcessLookupError("the pool has ended")
        return zygote

    def _forget(self) -> None:
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            zygote.end()

    def start(self, endpoints: child.Endpoints, name: str, ordered_at: float) -> BaseProcess:
        process = forking.Process(self._living_zygote(), endpoints, name)
        process.start()
        return process

    def renew(self) -> None:
        pass  # The next start does that.

    def reload(self) -> None:
        refuse_reload(self.name)

    def abandon(self) -> None:
        pass

    def break_off(self) -> None:
        # A start waits for the zygote's answer: its death is one.
        if (zygote := self._zygote) is not None:
            zygote.process.kill()

    def close(self) -> None:
        self._closed = True
        self._forget()
        self._inherited = child.Inherited()
