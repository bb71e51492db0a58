"""Both sides of the short cut: who lends workers, and who takes them. See :mod:`warmpool.lease`."""

from __future__ import annotations

import functools
import math
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from warmpool import events as ev
from warmpool.fleet import Fleet
from warmpool.future import TaskFuture
from warmpool.lease import LONGEST_FRAME, Lease, Returned, Submission
from warmpool.loop import Loop
from warmpool.overtaking import Overtaken
from warmpool.parker import Parkers

MOST_LEASES = 8
"""How many workers are on loan at most: more tasks than that seldom come in one sleep, and taking
leases back takes time."""
SEND_PATIENCE = 2.0
"""Seconds in which the taker of a lease has to have written. It takes microseconds, unless the
thread is stopped, or a signal handler that interrupted it waits for something, or an extension does
not let go of the GIL."""
LOOK = 0.1
"""Seconds between two looks of the supervisor's while tasks may pass it. A reader that is stopped,
or interrupted for long, costs others that; and what is short of it is no time limit for a reader's
task."""
LIVELY = 2.0
"""Seconds after the last task by a lease, after which tasks may not pass any more, and an idle
supervisor sleeps for as long as it can: the next one wakes it up."""


class Settles(Protocol):
    """The part of the supervisor that holds futures; see :mod:`warmpool.settling`."""

    def enter(self, submission: Submission) -> None:
        """Hold a task that the core is about to hear of."""

    def complete(self, answered: list[tuple[TaskFuture[object], int, bytes]]) -> None:
        """Settle what may have been settled, taking it off the list."""


class Lender:
    """Lends idle workers out while the supervisor sleeps.

    Args:
        fleet: Has the leases.
        loop: For looking after takers.
        post: Leaves a call for the supervisor's thread.
        report: Told of each worker that is killed since its taker never wrote, or a reader got
            stuck in the middle of a system call.
        parkers: Know whether readers are to be expected.
    """

    def __init__(
        self,
        fleet: Fleet,
        loop: Loop,
        post: Callable[[Callable[[], None]], None],
        report: Callable[[int], None],
        parkers: Parkers,
    ) -> None:
        self._parkers = parkers
        self._fleet = fleet
        self._loop = loop
        self._post = post
        self._report = report
        self._leases: deque[Lease] = deque()
        self._on_loan: list[Lease] = []
        # Invariant: both are empty, and every lease is revoked, unless the supervisor sleeps. (But
        # a reader that comes late may put a revoked one into the first.)
        self._wakes_at = -math.inf
        self._lively_until = -math.inf
        self._gave_turns = False
        self._unsent: deque[tuple[float, weakref.ref[Submission], int]] = deque()
        self._overtaken = Overtaken(fleet, loop, report)

    # ------------------------------------------------------------------ for submitters

    def take(self, submission: Submission) -> bool:
        """Hand a task to an idle worker, if one is on loan. *Threads:* any; never blocks."""
        if len(submission.payload) > LONGEST_FRAME:
            return False
        while self._leases:
            try:
                lease = self._leases.popleft()
            except IndexError:
                break  # Another thread was faster.
            if self._take(lease, submission):
                return True
        return False

    def _take(self, lease: Lease, submission: Submission) -> bool:
        spec, future = submission.spec, submission.future
        submission.taken_at = now = time.monotonic()
        # Nobody else knows the future yet, so this can be taken back.
        future.handed_over(lease.pid, now)
        try:
            # The soft limit is the shorter one, if there are both.
            limit = spec.timeout if spec.soft_timeout is None else spec.soft_timeout
            is_urgent = limit is not None and now + limit < self._wakes_at
            submission.turn = turn = None if is_urgent else lease.turn(spec, now)
            is_urgent = is_urgent or (turn is None and lease.is_muted)
            if not lease.take(submission):
                future.take_back()
                submission.turn = None
                return False
            if turn is not None:
                future.offer_turn(turn)
                if future.is_settled:
                    future.take_turn()  # By the supervisor, while this thread was stopped.
            rest = lease.send(submission)
            submission.sent = True
            if rest is not None:
                self._post(functools.partial(self._fleet.send_rest, lease.worker, rest))
            if is_urgent:
                self._post(_look_again)
        except BaseException:
            # Ctrl-C. Whether the frame has gone is not known, and nobody has the future.
            future.kill()
            raise
        return True

    def _wake(self) -> None:
        self._post(_look_again)

    # ------------------------------------------------------------------ for the supervisor

    def lend(self, workers: Mapping[int, int], wakes_at: float | None) -> float | None:
        """Lend these workers, the best first, until :meth:`revoke`.

        Args:
            workers: Idle ones, and how many tasks each may do before the core hears of them.
            wakes_at: Until when the supervisor sleeps (monotonic) if nothing happens.

        Returns:
            Until when it sleeps then.
        """
        self._gave_turns = False
        if self._parkers.are_expected and self._fleet.has_turns and any(workers.values()):
            now = time.monotonic()
            if now < self._lively_until:
                self._gave_turns = True
                if wakes_at is None or now + LOOK < wakes_at:
                    wakes_at = now + LOOK
        self._wakes_at = math.inf if wakes_at is None else wakes_at
        self._leases.clear()
        for worker, most in workers.items():
            lease = self._fleet.lease(worker, most if self._gave_turns else 0)
            if lease is not None:
                lease.lend(self._leases.appendleft, self._wake)
                self._on_loan.append(lease)
        self._leases.extend(self._on_loan)
        return wakes_at

    def revoke(self) -> list[Returned]:
        """Take back what was lent, and tell what it was used for."""
        self._leases.clear()
        used: list[Returned] = []
        for lease in self._on_loan:
            returned = lease.revoke()
            taken = returned.taken
            if lease.is_muted and returned.turn is None:
                self._fleet.take_over(lease.worker, None)
            if taken is not None and not taken.sent:
                self._look_after(taken, lease)
            if taken is not None or returned.passed:
                used.append(returned)
        self._on_loan.clear()
        return used

    def hear(self, settler: Settles, handle: Callable[[ev.Event], None]) -> bool:
        """Take back what was lent, and tell the core what has passed meanwhile.

        Returns:
            Whether something may be readable of which the selector was not to tell.
        """
        used = self.revoke()
        if not used:
            return self._overtaken.go_on() or self._gave_turns
        self._lively_until = time.monotonic() + LIVELY
        passed: list[ev.Event] = []
        taken: list[ev.Event] = []
        for returned in used:
            worker, submission = returned.worker, returned.taken
            if returned.passed:
                passed.append(ev.TasksPassed(worker, tuple(returned.passed)))
            if submission is not None:
                settler.enter(submission)
                taken.append(ev.TaskTaken(submission.spec, worker, submission.taken_at))
            if returned.turn is not None:
                self._overtaken.add(worker, returned.turn)
            settler.complete(returned.unsure)
        # The answers follow at once: not even here is there another reference to the futures; see
        # settling.
        used.clear()
        del returned, submission
        # What has passed comes first: a worker may be taken once more.
        for event in (*passed, *taken):
            handle(event)
        self._overtaken.go_on()
        return self._gave_turns

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
