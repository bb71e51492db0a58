"""Rules of the core: how many workers there are to be, who is one too many, and who is due to go.

A pool of a fixed size keeps every slot warm. An elastic one (``min_idle``) starts a worker for each
task that waits, and keeps some more ready ahead of demand; slots that wait for their delay count as
workers on their way, or a failing pool would go through all its slots at full speed.

Who is to leave, for age or memory, stays until its replacement is warm. Where there is no room for
that, it goes first, and one at a time: a pool must not be cold at once since all its workers were
started at once.
"""

from __future__ import annotations

from warmpool import events as ev
from warmpool.deadlines import Owner
from warmpool.ending import OPEN
from warmpool.events import ExitReason
from warmpool.lifecycle import LEAVING, WARM, Worker
from warmpool.state import PoolState

LIFETIME_JITTER = 0.1
"""A worker's lifetime is multiplied by 1 ± this: all of a pool were started together."""


class Sizing(PoolState):
    """Workers are started for demand, and sent home for the want of it."""

    # ------------------------------------------------------------------ more

    @property
    def _wanted(self) -> int:
        """How many workers are to be ready or on their way, beside the busy ones."""
        least = self.settings.min_idle if self.phase is OPEN else 0
        return (least or 0) + len(self.book.queue)

    def _shortfall(self) -> int:
        """How many slots are to get a worker, now or after a delay."""
        roster = self.roster
        if not self._wants_workers():
            return 0
        if self.settings.min_idle is None or roster.broken_at is not None:
            return roster.vacant
        return min(roster.vacant, self._wanted - roster.spare - roster.coming)

    def _adjust(self) -> None:
        """Start what is short, and let go who is due: after each event, whatever it was."""
        short = self._shortfall()
        if short > 0:
            self.roster.place_some(short, self._now)
            self._refresh_health()
        if self.roster.due_idle:
            self._retire_due()

    def _answer_if_warm(self) -> None:
        """Answer who has seen as many slots warm as are to be without anything to do."""
        least = self.settings.min_idle
        wanted = self.settings.max_workers if least is None else least
        for waiter, seen in list(self.waiters.items()):
            if len(seen) >= wanted:
                del self.waiters[waiter]
                self._out.append(ev.AnswerWarm(waiter))

    # ------------------------------------------------------------------ less

    def _has_become_idle(self) -> None:
        """A worker has nothing to do: see when the first of them is one too many."""
        if self._surplus_at is None and self._surplus() > 0:
            self._look_for_surplus_later()

    def _surplus(self) -> int:
        if self.settings.idle_timeout is None or self.settings.min_idle is None:
            return 0
        return len(self.roster.idle) - self.settings.min_idle

    def _look_for_surplus_later(self) -> None:
        assert self.settings.idle_timeout is not None
        oldest = next(iter(self.roster.idle.values()))
        self._surplus_at = oldest.moved_at + self.settings.idle_timeout
        self._note(self._surplus_at, Owner.SURPLUS, 0)

    def _surplus_deadline_passed(self) -> None:
        self._surplus_at = None
        while self.phase is OPEN and self._surplus() > 0:
            oldest = next(iter(self.roster.idle.values()))
            if oldest.moved_at + (self.settings.idle_timeout or 0.0) > self._now:
                self._look_for_surplus_later()
                return
            self._stop(oldest, ExitReason.UNUSED)

    # ------------------------------------------------------------------ others

    def _limit_age(self, worker: Worker) -> None:
        """A worker is ready: note when it will be too old."""
        lifetime = self.settings.worker_lifetime
        if lifetime is not None:
            jitter = 1.0 + LIFETIME_JITTER * (2.0 * self._random() - 1.0)
            worker.aged_at = worker.started_at + lifetime * jitter
            self._note(worker.aged_at, Owner.AGE, worker.id)

    def _age_deadline_passed(self, worker: Worker) -> None:
        worker.aged_at = None
        if worker.state in WARM and worker.id not in self.roster.due:
            self.roster.retire_soon(worker, ExitReason.AGED)

    def _on_reload(self, _event: ev.ReloadRequested) -> None:
        if self.phase is OPEN:
            self.roster.outdated = self.roster.started
            for worker in self.roster.in_states(WARM):
                self._retire_if_outdated(worker)

    def _retire_if_outdated(self, worker: Worker) -> None:
        if worker.id <= self.roster.outdated and worker.id not in self.roster.due:
            self.roster.retire_soon(worker, ExitReason.RELOADED)

    def _retire_due(self) -> None:
        """Send home whoever is due and can be spared."""
        roster = self.roster
        while roster.due_idle:
            has_replacement = self.settings.min_idle is not None and roster.spare >= self._wanted
            if not has_replacement and (roster.coming or roster.stages[LEAVING]):
                return  # For one that comes, or for the room that one leaves.
            worker = next(iter(roster.due_idle.values()))
            self._stop(worker, roster.due[worker.id])
