"""What the core knows of a pool, and the few steps that all its rules have in common.

The core is built in layers, each of which uses those below it: this one; ``queueing``, a task from
its submission to a worker; ``staffing``, a worker from birth to death; ``core``, waiting, time and
the end, and the interface.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from warmpool import events as ev
from warmpool import notices
from warmpool.deadlines import Deadlines
from warmpool.ending import CLOSING, DRAINING, OPEN, Ending, Phase
from warmpool.events import ExitReason, Failure, FailureKind
from warmpool.ledger import Ledger
from warmpool.lifecycle import BUSY, IDLE, WARM, WARMING, Worker
from warmpool.pulse import Pulses
from warmpool.restart import RestartPolicy
from warmpool.roster import Roster
from warmpool.tasks import TaskBook

JUST_IDLE = frozenset({IDLE})
JUST_BUSY = frozenset({BUSY})


@dataclass(frozen=True, slots=True)
class Settings:
    """What the core needs to know of the pool's options. Durations in seconds."""

    max_workers: int
    init_timeout: float = 60.0
    grace: float = 5.0
    max_tasks_per_child: int | None = None
    max_queue: int | None = None
    heartbeat_interval: float = 2.5
    heartbeat_timeout: float | None = 60.0
    min_idle: int | None = None
    idle_timeout: float | None = None
    worker_lifetime: float | None = None
    memory_limit: int | None = None
    memory_warning: int | None = None
    forwards_logs: bool = False
    is_observed: bool = False
    """Whether there is somebody who wants to be told of everything."""
    lays_out: bool = False
    """Whether workers have trays: see :mod:`warmpool.trays`."""
    restart: RestartPolicy = field(default_factory=RestartPolicy)


def smallest_limit(settings: Settings) -> int | None:
    """The memory, in bytes, past which something is to be done; None: nobody cares."""
    limits = (settings.memory_limit, settings.memory_warning)
    return min((limit for limit in limits if limit is not None), default=None)


class PoolState:
    """Books and roster of a pool, and the commands that the event at hand calls for.

    Args:
        settings: The options.
        random: Gives random numbers in [0, 1), for jitter.
        deadlines: Where all deadlines are noted.
    """

    def __init__(
        self, settings: Settings, random: Callable[[], float], deadlines: Deadlines
    ) -> None:
        self.settings = settings
        self.health = ev.Health.WARMING
        self.waiters: dict[int, set[int]] = {}
        """Who waits for warmth, and the slots that have been warm since.

        They need not all be so at one instant: with a fresh worker for each task they hardly are.
        """
        self._now = 0.0
        self._out: list[ev.Command] = []
        self.ending = Ending(deadlines)
        self.book = TaskBook(deadlines)
        self.ledger = Ledger()
        self.pulses = Pulses(settings.heartbeat_interval, settings.heartbeat_timeout)
        self._note = deadlines.add
        self._random = random
        self._is_elastic = settings.min_idle is not None
        self._memory_at: float | None = None
        """When to look next at the workers' memory."""
        self._memory_asked: set[int] = set()
        # Invariant: workers whose memory is being read; mostly those that there are.
        self._surplus_at: float | None = None
        """When to look next for workers that are not needed."""
        self.roster = Roster(
            settings.max_workers,
            settings.init_timeout,
            settings.restart,
            random,
            deadlines,
            self._emit,
        )

    @property
    def phase(self) -> Phase:
        """How far the pool is on its way to its end."""
        return self.ending.phase

    def _commands(self) -> list[ev.Command]:
        # Not kept: a large result in one of them would live on until the next event.
        commands, self._out = self._out, []
        return commands

    def _emit(self, command: ev.Command) -> None:
        self._out.append(command)

    def _forget(self, id: int, outcome: str, cause: FailureKind | None = None) -> None:
        task = self.book.forget(id, outcome, cause)
        if self.settings.is_observed:
            since = self._now - task.submitted_at
            reason = None if cause is None else cause.value
            self._tell(notices.TaskSettled(self._now, id, task.spec.name, outcome, reason, since))

    def _tell(self, notice: notices.Notice) -> None:
        self._out.append(ev.Tell(notice))

    def _fail(self, id: int, failure: Failure) -> None:
        self._forget(id, "failed", failure.kind)
        self._out.append(ev.SettleTask(id, failure=failure))

    def _drop(self, id: int) -> None:
        self._forget(id, "cancelled")
        self._out.append(ev.DropTask(id))

    def _failure(self, kind: FailureKind, worker: Worker, **facts: Any) -> Failure:
        return self.roster.failure(kind, worker, self._now, **facts)

    def _start_failed(self, worker: Worker, failure: Failure) -> None:
        roster = self.roster
        if worker.ready_at is None:
            worker.reason = ExitReason.INITIALIZER_FAILED
        unwell = roster.count_failure(worker, failure, self._now)
        consequence = f"failure {roster.slots[worker.slot].failures} in a row of its slot"
        if unwell and roster.broken_at is None and not roster.stages[WARM]:
            roster.break_(self._now)
            consequence += "; the pool is broken: waiting tasks fail, probing goes on"
        self._out.append(ev.ReportFailure(failure, consequence))
        if unwell:
            self._answer_warm(failure)
        self._refresh_health()
        if roster.broken_at is not None:
            for id in list(self.book.queue):
                self._fail(id, Failure(FailureKind.POOL_BROKEN, cause=failure))
            self._wind_down()

    def _wants_workers(self) -> bool:
        return self.phase is OPEN or (self.phase is DRAINING and bool(self.book.queue))

    def _refresh_health(self) -> None:
        health = ev.Health.CLOSED
        if self.phase is OPEN:
            health = self.roster.health(wants_none=self.settings.min_idle == 0)
        if health is not self.health:
            before, self.health = self.health, health
            if self.settings.is_observed:
                self._tell(notices.HealthChanged(self._now, health, before))
            self._out.append(ev.ChangeHealth(health, self.roster.last_failure))

    def _answer_warm(self, failure: Failure | None) -> None:
        for waiter in self.waiters:
            self._out.append(ev.AnswerWarm(waiter, failure))
        self.waiters.clear()

    def _stop(self, worker: Worker, reason: ExitReason) -> None:
        """Ask a worker to leave within its grace."""
        self.roster.stop(worker, self._now, self.settings.grace, reason)
        # It may have been the only warm one.
        self._refresh_health()

    def _wind_down(self) -> None:
        """Send home the workers that no task can need any more; at last, end."""
        if self.phase is DRAINING and not (self.book.queue or self.roster.has_trays):
            for worker in list(self.roster.idle.values()):
                self._stop(worker, ExitReason.CLOSED)
            if not self.book.tasks:
                for worker in self.roster.in_states(WARMING):
                    self.roster.kill(worker, self._now, ExitReason.CLOSED)
        if self.phase in (DRAINING, CLOSING) and not (self.book.tasks or self.roster.workers):
            self.ending.ended()
            for slot in self.roster.slots:
                self.roster.unschedule(slot)
            self._refresh_health()
            self._out.append(ev.EndPool())
