"""The workers of a pool and the slots they stand in: who is there, who may start, how it is.

Part of the core and as pure as it. The roster knows nothing of tasks but which worker has one.

Which slots are vacant, and which ail, is kept as it changes, as it is asked at each event and there
may be thousands of slots; :meth:`Roster.validate` compares it with what there is.
"""

from __future__ import annotations

from collections.abc import Callable

from warmpool import events as ev
from warmpool.deadlines import Deadlines, Owner
from warmpool.laid import Laid
from warmpool.lifecycle import BUSY, STOPPING, WARM, WARMING, State, Worker
from warmpool.restart import FailureWindow, RestartPolicy
from warmpool.standing import Standing
from warmpool.vacancies import Slot, Vacancies

STACK_PATIENCE = 0.25
"""Seconds that a worker has to write down its stack. Mostly it takes a millisecond."""


class Roster(Standing):
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
        super().__init__()
        self.slots = [Slot(index) for index in range(size)]
        self.vacancies = Vacancies(self.slots)
        self.ailing: set[int] = set()
        # Invariant: the indices of the slots that ail.
        self.laid = Laid()
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

    def health(self, *, wants_none: bool = False) -> ev.Health:
        """The health of an open pool.

        Args:
            wants_none: Whether the pool does without any worker while there is nothing to do.
        """
        if self.broken_at is not None:
            return ev.Health.BROKEN
        if self.ailing:
            return ev.Health.DEGRADED
        return ev.Health.READY if wants_none or self.stages[WARM] else ev.Health.WARMING

    def _ails(self, slot: Slot) -> bool:
        """Whether starts have failed in a slot that is to have a worker, and has no warm one."""
        if not slot.failures or slot.is_free:
            return False
        return slot.worker is None or self.workers[slot.worker].state not in WARM

    def _examine(self, slot: Slot) -> None:
        """Something has changed of which it depends whether the slot ails."""
        if self._ails(slot):
            self.ailing.add(slot.index)
        else:
            self.ailing.discard(slot.index)

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

    def _change_stage(self, worker: Worker, before: State, there: dict[int, Worker] | None) -> None:
        super()._change_stage(worker, before, there)
        self._examine(self.slots[worker.slot])

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
        self.enter(worker)
        slot.worker = worker.id
        self.unschedule(slot)
        self.set_deadline(worker, now + self._init_timeout)
        self._emit(ev.StartWorker(worker.id, slot.index))

    def stop(self, worker: Worker, now: float, grace: float, reason: ev.ExitReason) -> None:
        """Ask a worker to leave within its grace."""
        worker.reason = reason
        if self.proved_itself(worker, now):
            self.forgive(worker)  # Its successor need not wait.
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
        assert worker.task is None
        assert not worker.tray
        self.forget(worker)
        self.recalled.discard(worker.id)
        slot = self.slots[worker.slot]
        slot.worker = None
        self.vacancies.add(slot)
        self._examine(slot)

    # ------------------------------------------------------------------ vacant slots

    def place(self, slot: Slot, now: float) -> None:
        """Start the vacant slot's next worker, now or after its delay."""
        if self.broken_at is None and not slot.failures:
            self.start(slot, now)
        else:
            self._postpone(slot, now)

    def place_some(self, number: int, now: float) -> None:
        """The same for so many of the vacant slots that are not waiting for their delay."""
        for slot in self.vacancies.take(number):
            self.place(slot, now)

    def unschedule(self, slot: Slot) -> None:
        """Let a slot wait for nothing."""
        slot.next_start_at = None
        self.scheduled.discard(slot.index)
        if slot.is_free:
            self.vacancies.add(slot)
        self._examine(slot)

    def delay_passed(self, slot: Slot, now: float) -> None:
        """Start the vacant slot's next worker; in a broken pool only one in each longest delay."""
        self.unschedule(slot)
        rested = now - self._last_start >= self._policy.shortest_probe_delay
        if self.broken_at is None or (rested and not self.stages[WARMING]):
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
        self._examine(slot)
        self._deadlines.add(slot.next_start_at, Owner.SLOT, slot.index)

    # ------------------------------------------------------------------ failing and healing

    def proved_itself(self, worker: Worker, now: float) -> bool:
        """Whether the worker was of use, so that its death is no sign of a failing slot."""
        return worker.tasks_done > 0 or (
            worker.ready_at is not None and now - worker.ready_at >= self._policy.stable_after
        )

    def count_failure(self, worker: Worker, failure: ev.Failure, now: float) -> bool:
        """Record a failed start; True if there are more of them than is tolerated."""
        slot = self.slots[worker.slot]
        slot.failures += 1
        self._examine(slot)
        self.failed += 1
        self.last_failure = failure
        return self._window.add(now)

    def forgive(self, worker: Worker) -> None:
        """A worker was of use: what had failed in its slot before it is past."""
        slot = self.slots[worker.slot]
        if slot.failures:
            slot.failures = 0
            self._examine(slot)

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
            slot.next_start_at = None
        self.scheduled.clear()
        self.ailing.clear()
        self.vacancies.renew()

    # ------------------------------------------------------------------ checking

    def validate(self) -> None:
        """Assert what must always be true of slots and workers."""
        super().validate()
        assert len(self.workers) <= len(self.slots)  # I11
        assert self.scheduled == {s.index for s in self.slots if s.next_start_at is not None}
        assert self.ailing == {slot.index for slot in self.slots if self._ails(slot)}
        self.vacancies.validate()
        for slot in self.slots:
            if slot.worker is None:
                continue
            assert self.workers[slot.worker].slot == slot.index
            assert slot.next_start_at is None
        assert {w.id for w in self.workers.values()} == {
            slot.worker for slot in self.slots if slot.worker is not None
        }
        for worker in self.workers.values():
            if worker.state not in (BUSY, STOPPING) and worker.task is not None:
                assert worker.awaits_stack or worker.id in self.recalled
            assert worker.id not in self.laid or (worker.state is BUSY and worker.tray)
            assert worker.tray_at is None or worker.id in self.laid
        self.laid.validate()
