"""What callers were promised, in a second hand: each command is held against it."""

from __future__ import annotations

from tests.exploration.case import Case
from tests.property.outside import Outside
from warmpool import events as ev
from warmpool.core import Core
from warmpool.ending import CLOSED, CLOSING, OPEN
from warmpool.events import FailureKind
from warmpool.lifecycle import BUSY, INITIALIZING
from warmpool.tasks import FREE_RUNS

NOBODY = 99
"""The id of a task that was answered, or never was there."""

_OF_A_RUN = frozenset(
    {
        FailureKind.DIED,
        FailureKind.BROKE_PROTOCOL,
        FailureKind.TASK_TIMEOUT,
        FailureKind.UNRESPONSIVE,
        FailureKind.OUT_OF_MEMORY,
    }
)


class Expected:
    """A task without an answer, as its caller sees it."""

    __slots__ = ("cancelled", "evidence", "kill", "reruns", "runs")

    def __init__(
        self,
        runs: int = 0,
        reruns: int = 0,
        evidence: bool = True,
        kill: int = 0,
        cancelled: bool = False,
    ) -> None:
        self.runs = runs
        self.reruns = reruns
        """Those after a run that had started."""
        self.evidence = evidence
        """False: its last run is known not to have started."""
        self.kill = kill
        """1: to be killed after a grace; 2: at once."""
        self.cancelled = cancelled
        """Its future is cancelled, and the core does not know yet."""


class Promises(Outside):
    """A pool as its callers see it.

    Args:
        case: What there is.
    """

    expected: dict[int, Expected]
    waiting: bool
    """Whether somebody waits for warmth."""
    cold: set[int]
    """Slots whose last worker came to its end at this very instant without getting warm."""
    measured: set[int]
    """Workers whose memory is being read."""
    at_dispatch: list[int]
    """Tasks that turned out to be cancelled when they were to be sent."""
    heartbeats_wanted: bool
    told: ev.Health
    """How the pool is, as far as callers know."""
    may_drop: bool
    """Whether waiting tasks are being cancelled for their callers."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case
        self.core = Core(case.settings, lambda: 0.5)
        self.specs = {spec.id: spec for spec in case.tasks}

    # ------------------------------------------------------------------ commands

    def start(self, command: ev.StartWorker) -> None:
        super().start(command)
        assert len(self.alive) + len(self.unborn) <= self.core.settings.max_workers, "I11"
        assert command.slot not in self.cold, "refilled without a delay after a failure"

    def dispatch(self, command: ev.DispatchTask) -> None:
        super().dispatch(command)
        task = command.task
        assert task in self.expected, "a task runs that has its answer"
        expected = self.expected[task]
        if expected.cancelled:
            # Nothing is sent.
            del self.running[command.worker], self.expected[task]
            self.at_dispatch.append(task)
            return
        spec = self.specs[task]
        if expected.runs and expected.evidence:
            expected.reruns += 1
            assert expected.reruns <= spec.retries, "what may have started runs again unasked"
        assert not (expected.runs and expected.kill), "what was to be killed runs again"
        expected.runs += 1
        expected.evidence = True
        assert expected.runs <= 1 + spec.retries + FREE_RUNS, "it runs again and again"

    def settle(self, command: ev.SettleTask) -> None:
        expected = self._answered(command.task)
        failure = command.failure
        assert (failure is None) != (command.outcome is None), "an answer that is none, or two"
        if failure is None:
            assert expected.runs, "it is done and never ran"
            return
        self._is_true(failure, expected, self.specs[command.task])
        if failure.kind not in _OF_A_RUN:
            return
        assert expected.runs, "it fails of a run that it did not have"
        if self.core.phase in (CLOSING, CLOSED) or expected.kill:
            return
        counts = failure.started or failure.kind is FailureKind.TASK_TIMEOUT
        spent = self.specs[command.task].retries if counts else FREE_RUNS
        assert expected.runs > spent, "it fails though it has runs left"

    def _is_true(self, failure: ev.Failure, expected: Expected, spec: ev.TaskSpec) -> None:
        """Whether things are as a failure says."""
        kind, roster = failure.kind, self.core.roster
        if kind is FailureKind.POOL_BROKEN:
            assert roster.broken_at is not None, "it fails of a pool that is not broken"
            assert failure.cause is not None, "nobody is told why the pool is broken"
        elif kind is FailureKind.POOL_CLOSED:
            assert self.core.phase is not OPEN, "it fails of a pool that is open"
        elif kind is FailureKind.KILL_REQUESTED:
            assert expected.kill, "it fails of a kill that nobody asked for"
        elif kind is FailureKind.TASK_TIMEOUT:
            assert spec.timeout is not None, "it fails of a limit that it does not have"
        elif kind is FailureKind.QUEUE_TIMEOUT:
            assert spec.queue_timeout is not None, "it fails of a limit that it does not have"

    def _answered(self, task: int) -> Expected:
        expected = self.expected.pop(task, None)
        assert expected is not None, "a second answer"
        for worker, last in self.running.items():
            if last == task:
                self.running[worker] = NOBODY
        return expected

    def drop(self, command: ev.DropTask) -> None:
        expected = self._answered(command.task)
        assert not expected.runs, "what has run can be cancelled no more"
        assert expected.cancelled or expected.kill or self.may_drop, "dropped though nobody asked"

    def answer_warm(self, command: ev.AnswerWarm) -> None:
        assert self.waiting, "a second answer to one who waits for warmth"
        self.waiting = False
        if command.failure is None:
            assert self.core.phase is OPEN
            assert self.core.roster.broken_at is None, "warm, and broken"

    def interrupt(self, command: ev.InterruptTask) -> None:
        super().interrupt(command)
        # Less than nothing is read as "never" on the other side.
        assert command.left is None or command.left >= 0, "a task is not told when it is killed"

    def change_health(self, command: ev.ChangeHealth) -> None:
        self.told = command.health

    def read_heartbeats(self, command: ev.ReadHeartbeats) -> None:
        super().read_heartbeats(command)
        self.heartbeats_wanted = True

    def read_memory(self, command: ev.ReadMemory) -> None:
        super().read_memory(command)
        assert self.measured.isdisjoint(command.workers), "asked again before the answer"
        self.measured.update(command.workers)

    def end(self, _command: ev.EndPool) -> None:
        assert self.core.phase is CLOSED

    # ------------------------------------------------------------------ what must always be true

    def check(self) -> None:
        """Assert that the core's idea of the world is right, and what it asserts itself."""
        core = self.core
        roster, book = core.roster, core.book
        assert roster.workers.keys() == self.alive | self.unborn, "it knows not who is there"
        assert book.tasks.keys() == self.expected.keys(), "it knows not what is unanswered"
        assert bool(core.waiters) == self.waiting, "it knows not who waits for warmth"
        for worker in roster.workers.values():
            assert (worker.pid is None) == (worker.id in self.unborn)
            if worker.state is BUSY:
                assert self.running.get(worker.id) == worker.task, "it runs something else"
            elif worker.state is INITIALIZING:
                assert worker.id not in self.running
        core.validate()
        health = ev.Health.CLOSED
        if core.phase is OPEN:
            health = roster.health(wants_none=core.settings.min_idle == 0)
        assert core.health is health, "the pool says that it is well, or unwell, and is not"
        assert self.told is health, "nobody was told how the pool is"
