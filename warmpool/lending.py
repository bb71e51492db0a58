"""Both sides of the short cut: who lends workers, and who takes them. See :mod:`warmpool.lease`."""

from __future__ import annotations

import functools
import math
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable

from warmpool.fleet import Fleet
from warmpool.lease import LONGEST_FRAME, Lease, Submission
from warmpool.loop import Loop

MOST_LEASES = 8
"""How many workers are on loan at most: more tasks than that seldom come in one sleep, and taking
leases back takes time."""
SEND_PATIENCE = 2.0
"""Seconds in which the taker of a lease has to have written. It takes microseconds, unless the
thread is stopped, or a signal handler that interrupted it waits for something, or an extension does
not let go of the GIL."""


class Lender:
    """Lends idle workers out while the supervisor sleeps.

    Args:
        fleet: Has the leases.
        loop: For looking after takers.
        post: Leaves a call for the supervisor's thread.
        report: Told of each worker that is killed since its taker never wrote.
    """

    def __init__(
        self,
        fleet: Fleet,
        loop: Loop,
        post: Callable[[Callable[[], None]], None],
        report: Callable[[int], None],
    ) -> None:
        self._fleet = fleet
        self._loop = loop
        self._post = post
        self._report = report
        self._leases: deque[Lease] = deque()
        self._on_loan: list[Lease] = []
        # Invariant: both are empty, and every lease is revoked, unless the supervisor sleeps.
        self._wakes_at = -math.inf
        self._unsent: deque[tuple[float, weakref.ref[Submission], int]] = deque()

    # ------------------------------------------------------------------ for submitters

    def take(self, submission: Submission) -> bool:
        """Hand a task to an idle worker, if one is on loan. *Threads:* any; never blocks."""
        if not self._leases or len(submission.payload) > LONGEST_FRAME:
            return False
        try:
            lease = self._leases.popleft()
        except IndexError:
            return False  # Another thread was faster.
        submission.taken_at = now = time.monotonic()
        # Nobody else knows the future yet, so this can be taken back.
        submission.future.handed_over(lease.pid, now)
        try:
            if not lease.take(submission):
                submission.future.take_back()
                return False
            rest = lease.send(submission)
            submission.sent = True
            if rest is not None:
                self._post(functools.partial(self._fleet.send_rest, lease.worker, rest))
            spec = submission.spec
            # The soft limit is the shorter one, if there are both.
            limit = spec.timeout if spec.soft_timeout is None else spec.soft_timeout
            if limit is not None and now + limit < self._wakes_at:
                self._post(_look_again)
        except BaseException:
            # Ctrl-C. Whether the frame has gone is not known, and nobody has the future.
            submission.future.kill()
            raise
        return True

    # ------------------------------------------------------------------ for the supervisor

    def lend(self, workers: Iterable[int], wakes_at: float | None) -> None:
        """Lend these workers, the best first, until :meth:`revoke`.

        Args:
            workers: Idle ones.
            wakes_at: Until when the supervisor sleeps (monotonic) if nothing happens.
        """
        self._wakes_at = math.inf if wakes_at is None else wakes_at
        for worker in workers:
            lease = self._fleet.lease(worker)
            if lease is not None:
                lease.lend()
                self._on_loan.append(lease)
        self._leases.extend(self._on_loan)

    def revoke(self) -> list[tuple[Submission, int]]:
        """Take back what was lent, and tell which workers were taken for what."""
        self._leases.clear()
        taken: list[tuple[Submission, int]] = []
        for lease in self._on_loan:
            submission = lease.revoke()
            if submission is not None:
                if not submission.sent:
                    self._look_after(submission, lease)
                taken.append((submission, lease.worker))
        self._on_loan.clear()
        return taken

    def _look_after(self, submission: Submission, lease: Lease) -> None:
        # Its taker is about to write. Should it not come to that, the worker is lost.
        noted = time.monotonic()
        if not self._unsent:
            self._loop.call_at(noted + SEND_PATIENCE, self._look_for_unsent)
        # A weak reference: a result must not live on for this.
        self._unsent.append((noted, weakref.ref(submission), lease.worker))

    def _look_for_unsent(self) -> None:
        until = time.monotonic() - SEND_PATIENCE
        while self._unsent and self._unsent[0][0] <= until:
            _, reference, worker = self._unsent.popleft()
            submission = reference()
            if submission is None or submission.sent or submission.future.done():
                continue
            if self._fleet.give_up(worker, submission.spec.id):
                self._report(worker)
        if self._unsent:
            self._loop.call_at(self._unsent[0][0] + SEND_PATIENCE, self._look_for_unsent)


def _look_again() -> None:
    """Posted for its wake-up alone."""
