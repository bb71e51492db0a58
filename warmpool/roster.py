"""The workers of a pool and the slots they stand in: who is there, who may start, how it is.

Part of the core and as pure as it. The roster knows nothing of tasks but which worker has one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from warmpool import events as ev
from warmpool.deadlines import Deadlines, Owner
from warmpool.lifecycle import (
    BUSY,
    IDLE,
    LEAVING,
    WARM,
    WARMING,
    Input,
    InvalidTransition,
    State,
    Worker,
)
from warmpool.restart import FailureWindow, RestartPolicy

STACK_PATIENCE = 0.25
"""Seconds that a worker has to write down its stack. Mostly it takes a millisecond."""


@dataclass(slots=True)
class Slot:
    """A place in the pool. Outlives its workers and keeps their history (I9)."""

    index: int
    worker: int | None = None
    failures: int = 0
    """Failed starts in a row."""
    next_start_at: float | None = None
    # Invariant: None unless the slot is vacant.


class Roster:
    """Slots, workers and restart history.

    Args:
        size: The number of slots; never more workers than that are alive (I11), since each
            stands in a slot of its own until it is reaped.
        init_timeout: Seconds from start to ready.
        policy: Back-off and restart intensity.
        random: A function that gives random numbers in [0, 1).
        deadlines: Where deadlines of workers and slots are noted.
        emit: Takes commands.
    """

    def __init__(
        self,
        size: int,
        init_timeout: float,
        policy: RestartPolicy,
        random: Callable[[], float],
        deadlines: Deadlines,
        emit: Callable[[ev.Command], None],
    ) -> None:
        self.slots = [Slot(index) for index in range(size)]
        self.workers: dict[int, Worker] = {}
        self.idle: dict[int, None] = {}
        # Invariant: the keys of idle are the workers in IDLE, least recently idle first.
        self.unready: set[int] = set()
        # Invariant: the workers that were never ready. Also those that are leaving for that: until
        # its slot waits for its delay, no other slot is to take its place.
        self.due: dict[int, ev.ExitReason] = {}
        """Warm workers that are to leave as soon as they can be spared, and why."""
        self.laid: set[int] = set()
        # Invariant: the workers in whose trays something may be that they have not taken.
        self.recalled: set[int] = set()
        """Those whose trays are being emptied."""
        self.scheduled: set[int] = set()
        # Invariant: the indices of the slots whose next_start_at is not None.
        self.last_failure: ev.Failure | None = None
        self.broken_at: float | None = None
        self.started = 0
        self.outdated = 0
        """The last worker that was started before the last reload."""
        self.failed = 0
        self._last_start = 0.0
        self._init_timeout = init_timeout
        self._policy = policy
        self._random = random
        self._deadlines = deadlines
        self._emit = emit
        self._window = FailureWindow(policy.period(init_timeout), policy.intensity(size))

    # ------------------------------------------------------------------ asking

    def __getitem__(self, worker: int) -> Worker:
        try:
            return self.workers[worker]
        except KeyError:
            raise InvalidTransition(f"there is no worker {worker}") from None

    def in_states(self, states: frozenset[State]) -> list[Worker]:
        """The workers in one of these states; a copy, so that the caller may move them."""
        return [worker for worker in self.workers.values() if worker.state in states]

    @property
    def vacant(self) -> int:
        """How many slots have neither a worker nor a time for the next."""
        return len(self.slots) - len(self.workers) - len(self.scheduled)

    @property
    def has_trays(self) -> bool:
        """Whether there may be something that no worker has taken yet."""
        return bool(self.laid or self.recalled)

    @property
    def coming(self) -> int:
        """How many workers are on their way, or will be after their delay."""
        return len(self.unready) + len(self.scheduled)

    @property
    def spare(self) -> int:
        """How many workers have nothing to do, and are to stay."""
        return len(self.idle) - sum(worker in self.idle for worker in self.due)

    def health(self, *, wants_none: bool = False) -> ev.Health:
        """The health of an open pool.

        Args:
            wants_none: Whether the pool does without any worker while there is nothing to do.
        """
        if self.broken_at is not None:
            return ev.Health.BROKEN
        warm_slots = {worker.slot for worker in self.in_states(WARM)}
        for slot in self.slots:
            in_use = slot.worker is not None or slot.next_start_at is not None
            if slot.failures and in_use and slot.index not in warm_slots:
                return ev.Health.DEGRADED
        return ev.Health.READY if warm_slots or wants_none else ev.Health.WARMING

    def failure(
        self,
        kind: ev.FailureKind,
        worker: Worker,
        now: float,
        *,
        stage: str | None = None,
        exitcode: int | None = None,
        started: bool = False,
        limit: float | None = None,
        detail: str | None = None,
        remote: object = None,
        silent: float | None = None,
        used: int | None = None,
        task: str | None = None,
        stack: str | None = None,
    ) -> ev.Failure:
        """What is known of a worker at the moment of its failure."""
        return ev.Failure(
            kind,
            worker=worker.id,
            pid=worker.pid,
            stage=stage or worker.state.value,
            exitcode=exitcode,
            uptime=now - worker.started_at,
            started=started,
            limit=limit,
            detail=detail,
            remote=remote,
            silent=silent,
            used=used,
            task=task,
            stack=stack,
            story=worker.story(),
        )

    # ------------------------------------------------------------------ moving

    def move(self, worker: Worker, cause: Input, now: float) -> State:
        """Move a worker and keep the index of idle ones."""
        before = worker.move(cause, now)
        if worker.state is IDLE:
            self._add_idle(worker)
            self.unready.discard(worker.id)
        elif before is IDLE:
            del self.idle[worker.id]
        if worker.state not in WARM:
            self.due.pop(worker.id, None)
        return before

    def note_passed(self, worker: Worker, taken_at: float, done_at: float) -> None:
        """An idle worker was busy, and is idle again."""
        worker.note_passed(taken_at, done_at)
        del self.idle[worker.id]
        self._add_idle(worker)

    def retire_soon(self, worker: Worker, reason: ev.ExitReason) -> None:
        """Let a warm worker leave when it can be spared; others are preferred for tasks."""
        self.due[worker.id] = reason
        if self.idle.pop(worker.id, worker) is None:
            self._add_idle(worker)

    def _add_idle(self, worker: Worker) -> None:
        if worker.id in self.due:
            # As if it had been idle for the longest: the last to get a task.
            self.idle = {worker.id: None, **self.idle}
        else:
            self.idle[worker.id] = None

    def set_deadline(self, worker: Worker, at: float | None) -> None:
        """Give the worker another deadline, or none."""
        worker.deadline = at
        if at is not None:
            self._deadlines.add(at, Owner.WORKER, worker.id)

    def start(self, slot: Slot, now: float) -> None:
        """Have a new worker started in a vacant slot."""
        assert slot.worker is None  # I11
        self.started += 1
        self._last_start = now
        worker = Worker(self.started, slot.index, now, None)
        self.workers[worker.id] = worker
        self.unready.add(worker.id)
        slot.worker = worker.id
        self.unschedule(slot)
        self.set_deadline(worker, now + self._init_timeout)
        self._emit(ev.StartWorker(worker.id, slot.index))

    def stop(self, worker: Worker, now: float, grace: float, reason: ev.ExitReason) -> None:
        """Ask a worker to leave within its grace."""
        worker.reason = reason
        if self.proved_itself(worker, now):
            # What had failed in this slot before it is past: its successor need not wait.
            self.slots[worker.slot].failures = 0
        self.move(worker, ev.StopWorker, now)
        self.set_deadline(worker, now + grace)
        self._emit(ev.StopWorker(worker.id))

    def kill(
        self,
        worker: Worker,
        now: float,
        reason: ev.ExitReason,
        cause: type[ev.KillWorker | ev.WorkerBrokeProtocol] = ev.KillWorker,
    ) -> None:
        """Kill a worker. Somebody has to answer the task that it had."""
        if worker.reason is None:
            worker.reason = reason
        self.set_deadline(worker, None)
        self.move(worker, cause, now)
        self._emit(ev.KillWorker(worker.id))

    def condemn(self, worker: Worker, failure: ev.Failure, now: float) -> None:
        """Decide on a worker's end, but have its stack before the kill."""
        worker.suspicion = failure
        self.move(worker, ev.TakeStack, now)
        self.set_deadline(worker, now + STACK_PATIENCE)
        self._emit(ev.TakeStack(worker.id, worker.task))

    def bury(self, worker: Worker) -> None:
        """Take a dead worker out of its slot."""
        assert worker.state is State.DEAD
        assert worker.task is None
        assert not worker.tray
        del self.workers[worker.id]
        self.recalled.discard(worker.id)
        self.unready.discard(worker.id)
        self.slots[worker.slot].worker = None

    # ------------------------------------------------------------------ vacant slots

    def place(self, slot: Slot, now: float) -> None:
        """Start the vacant slot's next worker, now or after its delay."""
        if self.broken_at is None and not slot.failures:
            self.start(slot, now)
        else:
            self._postpone(slot, now)

    def place_some(self, number: int, now: float) -> None:
        """The same for so many of the vacant slots that are not waiting for their delay."""
        vacant = [slot for slot in self.slots if slot.worker is None and slot.next_start_at is None]
        # Those first that have failed, and so have to wait: else a pool that needs but one worker
        # would go through all its slots at full speed.
        vacant.sort(key=lambda slot: -slot.failures)
        for slot in vacant[:number]:
            self.place(slot, now)

    def unschedule(self, slot: Slot) -> None:
        """Let a slot wait for nothing."""
        slot.next_start_at = None
        self.scheduled.discard(slot.index)

    def delay_passed(self, slot: Slot, now: float) -> None:
        """Start the vacant slot's next worker; in a broken pool only one in each longest delay."""
        self.unschedule(slot)
        rested = now - self._last_start >= self._policy.shortest_probe_delay
        if self.broken_at is None or (rested and not self.in_states(WARMING)):
            self.start(slot, now)
        else:
            self._postpone(slot, now)

    def _postpone(self, slot: Slot, now: float) -> None:
        if self.broken_at is None:
            delay = self._policy.delay(slot.failures, self._random())
        else:
            delay = self._policy.probe_delay(self._random())
        slot.next_start_at = now + delay
        self.scheduled.add(slot.index)
        self._deadlines.add(slot.next_start_at, Owner.SLOT, slot.index)

    # ------------------------------------------------------------------ failing and healing

    def proved_itself(self, worker: Worker, now: float) -> bool:
        """Whether the worker was of use, so that its death is no sign of a failing slot."""
        return worker.tasks_done > 0 or (
            worker.ready_at is not None and now - worker.ready_at >= self._policy.stable_after
        )

    def count_failure(self, worker: Worker, failure: ev.Failure, now: float) -> bool:
        """Record a failed start; True if there are more of them than is tolerated."""
        self.slots[worker.slot].failures += 1
        self.failed += 1
        self.last_failure = failure
        return self._window.add(now)

    def break_(self, now: float) -> None:
        """Refill no more, but for one probe at a time."""
        self.broken_at = now
        for slot in self.slots:
            if slot.worker is None:
                self._postpone(slot, now)

    def heal(self) -> None:
        """A worker got warm: the others may be started at once."""
        self.broken_at = None
        self._window.clear()
        for slot in self.slots:
            slot.failures = 0
            self.unschedule(slot)

    # ------------------------------------------------------------------ checking

    def validate(self) -> None:
        """Assert what must always be true of slots and workers."""
        assert len(self.workers) <= len(self.slots)  # I11
        assert set(self.idle) == {w.id for w in self.workers.values() if w.state is IDLE}
        assert self.unready == {w.id for w in self.workers.values() if w.ready_at is None}
        assert self.due.keys() <= {w.id for w in self.workers.values() if w.state in WARM}
        assert self.scheduled == {s.index for s in self.slots if s.next_start_at is not None}
        for slot in self.slots:
            if slot.worker is None:
                continue
            assert self.workers[slot.worker].slot == slot.index
            assert slot.next_start_at is None
        assert {w.id for w in self.workers.values()} == {
            slot.worker for slot in self.slots if slot.worker is not None
        }
        for worker in self.workers.values():
            assert worker.state is not State.DEAD  # I9: the dead are not kept
            if worker.state is BUSY:
                assert worker.task is not None
            elif worker.task is not None:
                assert worker.state is State.STOPPING or worker.awaits_stack
                assert worker.suspicion is not None
            if worker.state in WARMING or worker.state is State.STOPPING:
                assert worker.deadline is not None, "it could stay for ever"
            if worker.state is IDLE:
                assert worker.deadline is None
            assert worker.id not in self.laid or (worker.state is BUSY and worker.tray)
            assert not worker.tray or worker.state in LEAVING | {BUSY}
            assert worker.tray_at is None or worker.id in self.laid
            assert worker.soft_at is None or worker.task is not None
