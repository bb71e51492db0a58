"""What callers were promised, in a second hand: each command is held against it."""

from __future__ import annotations

from tests.exploration.case import Case
from tests.exploration.given import Given
from warmpool import events as ev
from warmpool.core import Core
from warmpool.ending import CLOSED, CLOSING, OPEN
from warmpool.events import FailureKind
from warmpool.lifecycle import BUSY, INITIALIZING, WARM
from warmpool.tasks import FREE_RUNS
from warmpool.trays import PATIENCE

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

    __slots__ = ("cancelled", "evidence", "kill", "lay", "reruns", "runs", "sent")

    def __init__(
        self,
        runs: int = 0,
        reruns: int = 0,
        evidence: bool = True,
        kill: int = 0,
        cancelled: bool = False,
        sent: bool = False,
        lay: int = 0,
    ) -> None:
        self.runs = runs
        """Those that may have begun, as far as anybody knew at the time."""
        self.reruns = reruns
        """Those after a run that had started."""
        self.evidence = evidence
        """False: its last run is known not to have started."""
        self.kill = kill
        """1: to be killed after a grace; 2: at once."""
        self.cancelled = cancelled
        """Its future is cancelled, and the core does not know yet."""
        self.sent = sent
        """Whether it was sent to a worker, so that it can be cancelled no more."""
        self.lay = lay
        """1: it lies in a tray, or was taken from it; 2: it was taken back from one."""


class Promises(Given):
    """A pool as its callers see it.

    Args:
        case: What there is.
    """

    now: float
    expected: dict[int, Expected]
    waiting: bool
    """Whether somebody waits for warmth."""
    cold: set[int]
    """Slots whose last worker came to its end at this very instant without getting warm."""
    measured: set[int]
    """Workers whose memory is being read."""
    heartbeats_wanted: bool
    told: ev.Health
    """How the pool is, as far as callers know."""
    may_drop: bool
    """Whether waiting tasks are being cancelled for their callers."""
    outdated: set[int]
    """Workers that were there when the pool was to be reloaded."""

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
        is_sent = self.hand_over(command.task)
        self.claimed = set() if is_sent else {command.task}
        super().dispatch(command)
        if is_sent:
            self.expected[command.task].sent = True

    def hand_over(self, task: int) -> bool:
        assert task in self.expected, "a task runs that has its answer"
        expected = self.expected[task]
        if expected.cancelled:
            # Nothing is sent.
            del self.expected[task]
            return False
        assert not expected.kill, "what was to be killed is handed on"
        if self.core.settings.lays_out:
            expected.lay = 1
        return True

    def taken_back(self, task: int) -> None:
        if task in self.expected:
            self.expected[task].lay = 2

    def begin(self, task: int) -> None:
        expected, spec = self.expected[task], self.specs[task]
        if expected.runs and expected.evidence:
            expected.reruns += 1
            assert expected.reruns <= spec.retries, "what may have started runs again unasked"
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
        if failure.kind not in _OF_A_RUN and failure.kind is not FailureKind.KILL_REQUESTED:
            return
        began = bool(expected.runs) and expected.evidence
        if failure.kind is FailureKind.KILL_REQUESTED:
            began = began or expected.reruns > 0  # In any run.
        elif expected.lay == 2:
            began = False
        assert began or not failure.started, "it is said to have started, and had not"
        assert failure.started or not began, "it is said not to have started, and may have"
        if failure.kind is FailureKind.KILL_REQUESTED:
            return
        is_had = expected.runs or expected.sent or expected.lay
        assert is_had, "it fails of a run that it did not have"
        if self.core.phase in (CLOSING, CLOSED) or expected.kill:
            return
        counts = failure.started or failure.kind is FailureKind.TASK_TIMEOUT
        spent = self.specs[command.task].retries if counts else FREE_RUNS
        # Of those that lay in a tray the core counts some: the last one, or one past its limit.
        is_sure = not expected.lay or (failure.started and self.specs[command.task].timeout is None)
        assert expected.runs > spent or not is_sure, "it fails though it has runs left"

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
        self.is_over(task, NOBODY)
        return expected

    def drop(self, command: ev.DropTask) -> None:
        expected = self._answered(command.task)
        has_run = expected.runs or expected.sent
        assert not has_run, "what has run can be cancelled no more"
        assert expected.cancelled or expected.kill or self.may_drop, "dropped though nobody asked"

    def answer_warm(self, command: ev.AnswerWarm) -> None:
        assert self.waiting, "a second answer to one who waits for warmth"
        self.waiting = False
        if command.failure is None:
            assert self.core.phase is OPEN
            assert self.core.roster.broken_at is None, "warm, and broken"

    def take_stack(self, command: ev.TakeStack) -> None:
        super().take_stack(command)
        suspicion = self.core.roster.workers[command.worker].suspicion
        assert suspicion is not None
        if suspicion.kind in (FailureKind.TASK_TIMEOUT, FailureKind.KILL_REQUESTED):
            assert not self.behind.get(command.worker), "another task dies of it"

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
                known = [worker.task, *worker.tray]
                assert self.given(worker.id) == known, "it runs something else"
            elif worker.state is INITIALIZING:
                assert not self.given(worker.id)
        if core.settings.lays_out:
            self._check_trays()
        if self.outdated:
            self._check_outdated()
        core.validate()
        health = ev.Health.CLOSED
        if core.phase is OPEN:
            health = roster.health(wants_none=core.settings.min_idle == 0)
        assert core.health is health, "the pool says that it is well, or unwell, and is not"
        assert self.told is health, "nobody was told how the pool is"

    def _check_trays(self) -> None:
        """Nothing waits in a tray for long, nor while somebody has nothing to do."""
        roster = self.core.roster
        assert not roster.recalled, "a tray is being emptied for ever"
        for id, frames in self.trays.items():
            worker = roster.workers[id]
            if all(task == worker.task for task in frames):
                continue  # It has but to take it.
            assert not roster.idle, "a task waits behind another one while a worker is idle"
            if len(roster.slots) > 1:
                assert worker.tray_at is not None, "a task may wait behind another one for ever"
                assert worker.tray_at <= self.now + PATIENCE, "a task waits behind another one"

    def _check_outdated(self) -> None:
        """Who was there before a reload is on its way out, and nobody else for that."""
        roster = self.core.roster
        for worker in roster.workers.values():
            is_old = worker.id in self.outdated
            if worker.ready_at is None:
                assert (worker.id <= roster.outdated) is is_old, "it knows not who is outdated"
            elif worker.state in WARM and is_old:
                assert worker.id in roster.due, "one of before a reload stays"
