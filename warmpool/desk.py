"""Where other threads ask something of a pool's supervisor, and wait for it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable

from warmpool import config, forkguard
from warmpool import events as ev
from warmpool.answer import Answer, may_wait
from warmpool.census import Census
from warmpool.errors import PoolClosed, WarmpoolError
from warmpool.failures import to_error
from warmpool.lease import Submission
from warmpool.supervisor import Item, Supervisor

CLOSED, BROKEN = ev.Health.CLOSED, ev.Health.BROKEN


class Desk:
    """A supervisor as other threads see it.

    *Threads:* any, signal handlers and finalizers included, so it takes no lock. What blocks says
    so; and nothing blocks on a thread that is itself a supervisor's (I3), nor in a fork of the
    process, which has a copy of this and no thread behind it.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self.name = supervisor.name
        self.parkers = supervisor.parkers
        self.is_foreign = False
        self._is_open = False
        self._is_shut = False
        self._supervisor = supervisor
        self._inbox = supervisor.inbox
        self._owner = os.getpid()
        forkguard.enroll(self)

    def close_after_fork(self) -> None:
        """See :mod:`warmpool.forkguard`."""
        self.is_foreign = True

    def open(self, at_end: Callable[[], object]) -> None:
        """Start the supervisor and, with it, the workers.

        Args:
            at_end: Called once all is over, on any thread. Must not block.

        Raises:
            RuntimeError: The system has no thread left.
        """
        self._is_open = True
        self._supervisor.open(at_end)

    def abort(self) -> None:
        """End what failed to open, or was interrupted as it did, at whatever line. Never blocks."""
        self._supervisor.abort()

    # ------------------------------------------------------------------ tasks

    def submit(self, submission: Submission) -> bool:
        """Hand a task in; True if a worker has it already. Never blocks."""
        # Not past an earlier task of the same thread, which may be in the inbox still: with one
        # worker, tasks run in the order of their submission.
        if not self._inbox.items and self._supervisor.lender.take(submission):
            return True
        self._post(submission)
        return False

    def admit(self, submission: Submission) -> None:
        """As :meth:`submit`, but blocks until the core has taken or refused it."""
        if not self.submit(submission):
            self._await_turn()

    def cancelled(self, task: int) -> None:
        """See :class:`~warmpool.control.TaskControl`."""
        self._post(ev.TaskCancelled(task))

    def withdraw(self, task: int) -> None:
        """See :class:`~warmpool.control.TaskControl`."""
        self._post(ev.TaskWithdrawn(task))
        self._await_turn()

    def kill(self, task: int, grace: float | None) -> None:
        """See :class:`~warmpool.control.TaskControl`."""
        config.check_duration("grace", grace, optional=True, zero=True)
        self._post(ev.TaskKillRequested(task, grace))

    # ------------------------------------------------------------------ state

    @property
    def health(self) -> ev.Health:
        """How the pool is."""
        # The supervisor may not have heard of it yet; a submit is refused already.
        return CLOSED if self._is_shut else self._supervisor.health

    @property
    def has_ended(self) -> bool:
        """Whether the supervisor is done, or is another process's."""
        return self.is_foreign or self._supervisor.is_over

    def last_error(self) -> WarmpoolError | None:
        """Why the last worker failed that did."""
        failure = self._supervisor.last_failure
        return None if failure is None else to_error(failure, self.name)

    def ensure_open(self, *, may_be_broken: bool = False) -> None:
        """Raise what a submit would meet now.

        Args:
            may_be_broken: Whether that is no matter.

        Raises:
            PoolClosed: The pool is closed, or another process's.
            PoolBroken: Its workers keep failing.
        """
        if self.is_foreign:
            raise PoolClosed(
                f"pool {self.name!r} belongs to process {self._owner}, of which this one is a "
                "fork: make a pool of its own here"
            )
        health = self._supervisor.health
        if self._is_shut or health is CLOSED or self._inbox.has_ended:
            raise self._supervisor.end_error()
        if health is BROKEN and not may_be_broken:
            cause = self._supervisor.last_failure
            raise to_error(ev.Failure(ev.FailureKind.POOL_BROKEN, cause=cause), self.name)

    def wait_warm(self, timeout: float | None) -> bool:
        """Wait until every slot is warm; False if the timeout, in seconds, passes before. Blocks.

        Raises:
            WarmpoolError: It cannot get warm.
        """
        waiters = self._supervisor.warm_waiters
        number, answer = waiters.join()
        try:
            self._post(ev.WarmAwaited(number))
            if not self._await(answer, timeout):
                return False
        finally:
            if waiters.leave(number):
                # It timed out, or was interrupted.
                self._post(ev.WarmAbandoned(number))
        if answer.error is not None:
            raise answer.error
        return True

    def census(self, timeout: float | None = None) -> Census:
        """Count what there is, at one instant. Blocks shortly.

        Raises:
            TimeoutError: There is no answer within the timeout, in seconds.
        """
        supervisor = self._supervisor
        if not self._is_open:
            return Census(self.health)
        if supervisor.is_this_thread():
            return supervisor.census()  # A finalizer that the garbage collector runs there.
        if self.is_foreign or not may_wait():
            return supervisor.census()
        return supervisor.ask_census(timeout)

    # ------------------------------------------------------------------ the end

    def shutdown(self, *, cancel_queued: bool) -> None:
        """Have it finish, and take nothing more from now on. Never blocks."""
        self._is_shut = True
        self._post(ev.ShutdownRequested(cancel_queued))
        self._abort_unopened()

    def close(self, timeout: float | None, *, interrupts: bool = False) -> None:
        """Have it end within the timeout, in seconds; as :meth:`shutdown`."""
        self._is_shut = True
        self._post(ev.CloseRequested(timeout, interrupts))
        self._abort_unopened()

    def reload(self, preload: Callable[[], None]) -> None:
        """Preload anew, and then have all workers of before replaced. *Threads:* any; blocks.

        Raises:
            WarmpoolError: The preload failed, or the pool has ended meanwhile.
        """
        try:
            preload()
        except ProcessLookupError:
            raise self._supervisor.end_error() from None
        self._post(ev.ReloadRequested())

    def _abort_unopened(self) -> None:
        if not (self._is_open or self.is_foreign):
            self._supervisor.abort()

    def wait_ended(self, timeout: float | None) -> bool:
        """Wait for the end, in seconds; False if it has not come. Blocks."""
        if self.is_foreign:
            return True
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        # Not by Thread.join(): interrupted by Ctrl-C, it takes the thread for dead from then on
        # (CPython before 3.13).
        waiters = self._supervisor.end_waiters
        number, answer = waiters.join()
        try:
            if self._supervisor.is_over:
                waiters.answer(number)
            if not self._await(answer, timeout):
                return False
        finally:
            waiters.leave(number)
        self._supervisor.join(max(0.0, deadline - time.monotonic()))
        return True

    # ------------------------------------------------------------------

    def _await_turn(self) -> None:
        """Wait until what this thread has posted is handled."""
        seen = Answer()
        self._post(seen.give)
        self._await(seen, None)

    def _post(self, item: Item | Callable[[], None]) -> None:
        if not self.is_foreign:
            self._inbox.post(item)

    def _await(self, answer: Answer, timeout: float | None) -> bool:
        return not self.is_foreign and may_wait() and answer.wait(timeout)
