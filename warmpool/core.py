"""The whole pool as a value: ``handle(event, now)`` answers with commands.

Rules:

1. No clock, no thread, no process, no randomness of its own: now and random numbers are given.
   A test says which modules this one may not import.
2. Each event is handled to its end: when ``handle`` returns, :meth:`Core.validate` holds.
3. An event that does not fit is refused with ``InvalidTransition`` and changes nothing; but what a
   *worker* says out of turn is not refused, it is a broken protocol and costs that worker (I13).
4. Every task and every waiter gets exactly one answer (I10): answering takes it out of the books,
   and only what is in the books is answered.

The bound on a future, by construction: a queued task waits for a worker to get idle or for the
pool to be broken; each start is bounded by ``init_timeout``, each wait between two by the longest
delay, and their number by the restart intensity. A running one is bounded by its own limit or by
its worker's death.
"""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from warmpool import events as ev
from warmpool.deadlines import Deadlines, Owner
from warmpool.events import Failure, FailureKind
from warmpool.lifecycle import (
    BUSY,
    IDLE,
    KILLING,
    LIVE,
    STOPPING,
    WARM,
    WARMING,
    InvalidTransition,
    Worker,
)
from warmpool.restart import RestartPolicy
from warmpool.roster import Roster, Slot

LINGER = 0.5
"""Seconds between a worker's end of file and its kill: closing descriptors is the last but one
thing that the kernel does for a dying process, so nearly always its exit follows at once."""

KILL_RESERVE = 0.2
"""Of a ``close(timeout)``, what is kept for SIGKILL and reaping: this or a fifth, if less."""

ABANDON_AFTER = 10.0
"""Seconds that a closing pool waits for SIGKILL to work: a process in uninterruptible sleep (dead
network file system) does not die before its system call ends."""

FREE_RUNS = 3
"""How often a task that never started is handed on: a task that kills each worker before it can
note its start (an argument too large for memory) would else kill workers for ever."""


_KILL, _ABANDON = 0, 1  # The two deadlines of a closing pool.


class Phase(enum.Enum):
    """How far the pool is on its way to its end."""

    OPEN = "open"
    DRAINING = "draining"
    CLOSING = "closing"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the core needs to know of the pool's options. Durations in seconds."""

    max_workers: int
    init_timeout: float = 60.0
    grace: float = 5.0
    max_tasks_per_child: int | None = None
    max_queue: int | None = None
    restart: RestartPolicy = RestartPolicy()


@dataclass(slots=True)
class Task:
    """A task that has not been answered."""

    spec: ev.TaskSpec
    retries: int
    """Runs that are left after a failed one."""
    free_runs: int = FREE_RUNS
    worker: int | None = None
    # Invariant: None exactly while the task is queued.
    queue_deadline: float | None = None


class Core:
    """The pool's decisions.

    Args:
        settings: The options.
        random: Gives random numbers in [0, 1), for jitter.
    """

    def __init__(self, settings: Settings, random: Callable[[], float]) -> None:
        self.settings = settings
        self.phase = Phase.OPEN
        self.health = ev.Health.WARMING
        self.tasks: dict[int, Task] = {}
        self.queue: OrderedDict[int, None] = OrderedDict()
        self.waiters: dict[int, None] = {}
        self.submitted = 0
        self.settled: Counter[str] = Counter()
        self._deadlines = Deadlines(self._holds)
        self.roster = Roster(
            settings.max_workers, settings.init_timeout, settings.restart, random, self._deadlines
        )
        self._kill_at: float | None = None
        self._abandon_at: float | None = None
        # Invariant: exactly one of the two is set while CLOSING, none in other phases.
        self._now = 0.0
        self._out: list[ev.Command] = []
        self._handlers: dict[type[ev.Event], Callable[[Any], None]] = {
            ev.TaskSubmitted: self._on_submitted,
            ev.TaskCancelled: self._on_cancelled,
            ev.TaskKillRequested: self._on_kill_requested,
            ev.WarmAwaited: self._on_warm_awaited,
            ev.WarmAbandoned: self._on_warm_abandoned,
            ev.ShutdownRequested: self._on_shutdown,
            ev.CloseRequested: self._on_close,
            ev.TimePassed: self._on_time,
            ev.WorkerSpawned: self._on_spawned,
            ev.WorkerStartFailed: self._on_start_failed,
            ev.WorkerGreeted: self._on_said,
            ev.WorkerReady: self._on_ready,
            ev.InitializerRaised: self._on_initializer_raised,
            ev.TaskDone: self._on_task_done,
            ev.WorkerBrokeProtocol: self._on_broke_protocol,
            ev.WorkerChannelClosed: self._on_channel_closed,
            ev.WorkerExited: self._on_exited,
        }

    # ------------------------------------------------------------------ the interface

    def open(self, now: float) -> list[ev.Command]:
        """Start the first workers."""
        self._begin(now)
        for slot in self.roster.slots:
            self._start(slot)
        return self._out

    def handle(self, event: ev.Event, now: float) -> list[ev.Command]:
        """Take in what happened and answer with what is to be done, in this order.

        Raises:
            InvalidTransition: The event does not fit. Nothing has changed.
        """
        self._begin(now)
        self._handlers[type(event)](event)
        return self._out

    def next_deadline(self) -> float | None:
        """When :class:`~warmpool.events.TimePassed` is to be said at the latest."""
        return self._deadlines.next()

    def census(self) -> ev.Census:
        """Count what there is."""
        return ev.Census(
            health=self.health,
            workers=dict(Counter(w.state.value for w in self.roster.workers.values())),
            queued=len(self.queue),
            running=len(self.tasks) - len(self.queue),
            workers_started=self.roster.started,
            workers_failed=self.roster.failed,
            tasks_submitted=self.submitted,
            tasks_settled=dict(self.settled),
        )

    # ------------------------------------------------------------------ tasks

    def _on_submitted(self, event: ev.TaskSubmitted) -> None:
        spec = event.task
        if spec.id in self.tasks:
            raise InvalidTransition(f"task {spec.id} was submitted before")
        self.submitted += 1
        self.tasks[spec.id] = Task(spec, spec.retries)
        if self.phase is not Phase.OPEN:
            self._fail(spec.id, Failure(FailureKind.POOL_CLOSED))
        elif self._is_saturated():
            limit = self.settings.max_queue
            self._fail(spec.id, Failure(FailureKind.POOL_SATURATED, limit=limit))
        else:
            self._enqueue(spec.id)

    def _is_saturated(self) -> bool:
        limit = self.settings.max_queue
        return limit is not None and len(self.queue) >= limit and not self.roster.idle

    def _enqueue(self, id: int, *, first: bool = False) -> None:
        self.tasks[id].worker = None
        if self.roster.broken_at is not None:
            self._fail(id, Failure(FailureKind.POOL_BROKEN, cause=self.roster.last_failure))
            return
        self.queue[id] = None
        if first:
            self.queue.move_to_end(id, last=False)
        self._assign()
        task = self.tasks[id]
        if task.worker is None and task.spec.queue_timeout is not None:
            task.queue_deadline = self._now + task.spec.queue_timeout
            self._deadlines.add(task.queue_deadline, Owner.TASK, id)

    def _assign(self) -> None:
        # The worker that was idle for the shortest time: its caches are warm.
        idle = self.roster.idle
        while self.queue and idle:
            id, _ = self.queue.popitem(last=False)
            worker = self.roster.workers[next(reversed(idle))]
            task = self.tasks[id]
            task.worker, task.queue_deadline = worker.id, None
            worker.task = id
            self.roster.move(worker, ev.DispatchTask, self._now)
            limit = task.spec.timeout
            if limit is not None:
                self.roster.set_deadline(worker, self._now + limit)
            self._out.append(ev.DispatchTask(worker.id, id))

    def _on_cancelled(self, event: ev.TaskCancelled) -> None:
        task = self.tasks.get(event.task)
        if task is None:
            return  # Answered in the same instant.
        worker = None if task.worker is None else self.roster.workers[task.worker]
        if worker is not None:
            if worker.state is not BUSY:
                raise InvalidTransition("a task was cancelled that was sent")
            worker.task = None
            self.roster.set_deadline(worker, None)
            self.roster.move(worker, ev.TaskCancelled, self._now)
        if worker is None:
            self._drop(event.task)
        else:
            self._forget(event.task, "cancelled")
            self._after_task(worker)
        self._wind_down()

    def _on_kill_requested(self, event: ev.TaskKillRequested) -> None:
        task = self.tasks.get(event.task)
        if task is None:
            return
        if task.worker is None:
            self._drop(event.task)
        else:
            worker = self.roster.workers[task.worker]
            task.retries = 0  # Else it would run again, against the wish of its owner.
            self._kill(worker, self._failure(FailureKind.KILL_REQUESTED, worker, started=True))
        self._wind_down()

    def _on_task_done(self, event: ev.TaskDone) -> None:
        worker = self.roster[event.worker]
        if worker.state is BUSY and worker.task != event.task:
            self._break_protocol(worker, f"answered task {event.task}, which it does not have")
        elif self._heard(worker, ev.TaskDone) and worker.state is IDLE:
            worker.task = None
            worker.tasks_done += 1
            self.roster.slots[worker.slot].failures = 0
            if worker.deadline is not None:
                self.roster.set_deadline(worker, None)
            self._forget(event.task, event.outcome.value)
            self._out.append(ev.SettleTask(event.task, event.outcome, event.payload))
            self._after_task(worker)

    def _after_task(self, worker: Worker) -> None:
        limit = self.settings.max_tasks_per_child
        if self.phase is Phase.CLOSING or (limit is not None and worker.tasks_done >= limit):
            self._stop(worker)
        else:
            self._assign()
        if self.phase is not Phase.OPEN:
            self._wind_down()

    def _fail(self, id: int, failure: Failure) -> None:
        self._forget(id, "failed")
        self._out.append(ev.SettleTask(id, failure=failure))

    def _drop(self, id: int) -> None:
        self._forget(id, "cancelled")
        self._out.append(ev.DropTask(id))

    def _forget(self, id: int, outcome: str) -> None:
        del self.tasks[id]
        self.queue.pop(id, None)
        self.settled[outcome] += 1

    def _fail_or_rerun(self, id: int, failure: Failure) -> None:
        # A task that never started runs elsewhere by itself; one that may have started only at
        # the caller's wish (promise 5).
        task = self.tasks[id]
        may_rerun = self.phase in (Phase.OPEN, Phase.DRAINING)
        if may_rerun and not failure.started and task.free_runs:
            task.free_runs -= 1
            self._enqueue(id, first=True)
        elif may_rerun and failure.started and task.retries:
            task.retries -= 1
            self._enqueue(id)
        else:
            self._fail(id, failure)
        self._refill()

    # ------------------------------------------------------------------ workers: what they say

    def _heard(self, worker: Worker, cause: type[ev.WorkerEvent]) -> bool:
        """Move the worker by what it said; False if it may not say that now."""
        if worker.allows(cause):
            self.roster.move(worker, cause, self._now)
            return True
        self._break_protocol(worker, f"said {cause.__name__} while {worker.state.value}")
        return False

    def _on_said(self, event: ev.WorkerGreeted) -> None:
        self._heard(self.roster[event.worker], type(event))

    def _on_ready(self, event: ev.WorkerReady) -> None:
        worker = self.roster[event.worker]
        if not self._heard(worker, ev.WorkerReady) or worker.state is not IDLE:
            return
        worker.ready_at = self._now
        self.roster.set_deadline(worker, None)
        if self.roster.broken_at is not None:
            self.roster.heal()
            self._refill(at_once=True)
        self._assign()
        self._wind_down()
        if self.waiters and self.roster.all_warm():
            self._answer_warm(None)
        self._refresh_health()

    def _on_initializer_raised(self, event: ev.InitializerRaised) -> None:
        worker = self.roster[event.worker]
        failure = self._failure(FailureKind.INITIALIZER_RAISED, worker, remote=event.remote)
        if self._heard(worker, ev.InitializerRaised) and worker.state is STOPPING:
            self.roster.set_deadline(worker, self._now + LINGER)
            self._start_failed(worker, failure)

    def _on_broke_protocol(self, event: ev.WorkerBrokeProtocol) -> None:
        self._break_protocol(self.roster[event.worker], event.detail, event.last_started)

    def _break_protocol(self, worker: Worker, detail: str, last_started: int | None = None) -> None:
        if worker.state is KILLING:
            return
        started = worker.task is not None and last_started in (worker.task, None)
        failure = self._failure(FailureKind.BROKE_PROTOCOL, worker, detail=detail, started=started)
        self._kill(worker, failure, ev.WorkerBrokeProtocol)
        self._out.append(ev.ReportFailure(failure, "it is killed and replaced"))

    def _on_channel_closed(self, event: ev.WorkerChannelClosed) -> None:
        worker = self.roster[event.worker]
        if worker.state in WARM or worker.state in WARMING:
            worker.suspicion = self._failure(
                FailureKind.BROKE_PROTOCOL,
                worker,
                detail="closed its channel and lived on",
                started=True,
            )
            self.roster.set_deadline(worker, self._now + LINGER)
            self.roster.move(worker, ev.WorkerChannelClosed, self._now)
            self._refresh_health()
        else:
            self._heard(worker, ev.WorkerChannelClosed)

    # ------------------------------------------------------------------ workers: birth and death

    def _start(self, slot: Slot) -> None:
        worker = self.roster.start(slot, self._now)
        self._out.append(ev.StartWorker(worker.id, slot.index))

    def _on_spawned(self, event: ev.WorkerSpawned) -> None:
        worker = self.roster[event.worker]
        self.roster.move(worker, ev.WorkerSpawned, self._now)
        worker.pid = event.pid

    def _on_start_failed(self, event: ev.WorkerStartFailed) -> None:
        worker = self.roster[event.worker]
        before = self.roster.move(worker, ev.WorkerStartFailed, self._now)
        if before is not KILLING:
            self._start_failed(worker, event.failure)
        self._bury(worker)

    def _on_exited(self, event: ev.WorkerExited) -> None:
        worker = self.roster[event.worker]
        before = self.roster.move(worker, ev.WorkerExited, self._now)
        if before is KILLING or (before is STOPPING and worker.suspicion is None):
            self._bury(worker)
            return
        # A worker that died by itself after its end of file died of what it did before.
        stage = before.value if worker.suspicion is None else worker.suspicion.stage
        started = worker.task is not None and worker.task == event.last_started
        failure = self._failure(
            FailureKind.DIED, worker, stage=stage, exitcode=event.exitcode, started=started
        )
        if worker.ready_at is None or not (started or self.roster.proved_itself(worker, self._now)):
            self._start_failed(worker, failure)
        else:
            self.roster.slots[worker.slot].failures = 0
            self._out.append(ev.ReportFailure(failure, "it is replaced"))
        task, worker.task = worker.task, None
        if task is not None:
            self._fail_or_rerun(task, failure)
        self._bury(worker)

    def _kill(
        self,
        worker: Worker,
        failure: Failure | None,
        cause: type[ev.KillWorker | ev.WorkerBrokeProtocol] = ev.KillWorker,
    ) -> None:
        """Kill a worker; its task, and its slot if it was warming, fail of the failure."""
        task, worker.task = worker.task, None
        was_warming = worker.state in WARMING
        was_suspect = worker.suspicion is not None and worker.ready_at is None
        self.roster.set_deadline(worker, None)
        self.roster.move(worker, cause, self._now)
        self._out.append(ev.KillWorker(worker.id))
        if failure is not None and (was_warming or was_suspect):
            self._start_failed(worker, failure)
        if task is not None:
            assert failure is not None  # I10
            self._fail_or_rerun(task, failure)
        self._refresh_health()

    def _stop(self, worker: Worker) -> None:
        self.roster.move(worker, ev.StopWorker, self._now)
        self.roster.set_deadline(worker, self._now + self.settings.grace)
        self._out.append(ev.StopWorker(worker.id))

    def _bury(self, worker: Worker) -> None:
        self._place(self.roster.bury(worker))
        self._wind_down()
        self._refresh_health()

    # ------------------------------------------------------------------ slots and health

    def _wants_workers(self) -> bool:
        return self.phase is Phase.OPEN or (self.phase is Phase.DRAINING and bool(self.queue))

    def _place(self, slot: Slot, *, at_once: bool = False) -> None:
        """Start the vacant slot's next worker, now or after its delay."""
        if not self._wants_workers():
            return
        if at_once or self.roster.delay(slot) == 0.0:
            self._start(slot)
        else:
            self.roster.postpone(slot, self._now)

    def _refill(self, *, at_once: bool = False) -> None:
        for slot in list(self.roster.vacant()):
            if at_once or slot.next_start_at is None:
                self._place(slot, at_once=at_once)

    def _start_failed(self, worker: Worker, failure: Failure) -> None:
        unwell = self.roster.count_failure(worker, failure, self._now)
        slot = self.roster.slots[worker.slot]
        consequence = f"failure {slot.failures} in a row of slot {slot.index}"
        if unwell and self.roster.broken_at is None and not self.roster.in_states(WARM):
            self.roster.break_(self._now)
            consequence += "; the pool is broken: waiting tasks fail, probing goes on"
        self._out.append(ev.ReportFailure(failure, consequence))
        if unwell:
            self._answer_warm(failure)
        self._refresh_health()
        if self.roster.broken_at is not None:
            for id in list(self.queue):
                self._fail(id, Failure(FailureKind.POOL_BROKEN, cause=failure))
            self._wind_down()

    def _refresh_health(self) -> None:
        health = self.roster.health() if self.phase is Phase.OPEN else ev.Health.CLOSED
        if health is not self.health:
            self.health = health
            self._out.append(ev.ChangeHealth(health, self.roster.last_failure))

    # ------------------------------------------------------------------ waiting for warmth

    def _on_warm_awaited(self, event: ev.WarmAwaited) -> None:
        self.waiters[event.waiter] = None
        if self.phase is not Phase.OPEN:
            self._answer_warm(Failure(FailureKind.POOL_CLOSED))
        elif self.roster.broken_at is not None:
            self._answer_warm(self.roster.last_failure)
        elif self.roster.all_warm():
            self._answer_warm(None)

    def _on_warm_abandoned(self, event: ev.WarmAbandoned) -> None:
        self.waiters.pop(event.waiter, None)

    def _answer_warm(self, failure: Failure | None) -> None:
        for waiter in self.waiters:
            self._out.append(ev.AnswerWarm(waiter, failure))
        self.waiters.clear()

    # ------------------------------------------------------------------ the end

    def _on_shutdown(self, event: ev.ShutdownRequested) -> None:
        if event.cancel_queued:
            for id in list(self.queue):
                self._drop(id)
        if self.phase is Phase.OPEN:
            self.phase = Phase.DRAINING
            self._answer_warm(Failure(FailureKind.POOL_CLOSED))
        self._wind_down()
        self._refresh_health()

    def _on_close(self, event: ev.CloseRequested) -> None:
        if self.phase is Phase.CLOSED:
            return
        self.phase = Phase.CLOSING
        if self._abandon_at is None:
            kill_at = self._now + self.settings.grace
            if event.timeout is not None:
                reserve = min(KILL_RESERVE, event.timeout / 5)
                kill_at = min(kill_at, self._now + event.timeout - reserve)
            if self._kill_at is not None:
                kill_at = min(kill_at, self._kill_at)
            self._kill_at = kill_at
            self._deadlines.add(kill_at, Owner.POOL, _KILL)
        self._answer_warm(Failure(FailureKind.POOL_CLOSED))
        for id in list(self.queue):
            self._fail(id, Failure(FailureKind.POOL_CLOSED))
        for worker in self.roster.in_states(WARMING):
            self._kill(worker, None)
        for worker in self.roster.in_states(frozenset({IDLE})):
            self._stop(worker)
        self._wind_down()
        self._refresh_health()

    def _pool_deadline_passed(self, id: int) -> None:
        if id == _KILL:
            self._kill_at = None
            self._abandon_at = self._now + ABANDON_AFTER
            self._deadlines.add(self._abandon_at, Owner.POOL, _ABANDON)
            for worker in self.roster.in_states(LIVE - {KILLING}):
                failure = None
                if worker.task is not None:
                    failure = self._failure(FailureKind.POOL_CLOSED, worker, started=True)
                self._kill(worker, failure)
        else:
            self._abandon_at = None
            for worker in self.roster.in_states(LIVE):
                self.roster.move(worker, ev.AbandonWorker, self._now)
                self._out.append(ev.AbandonWorker(worker.id))
                self._bury(worker)
        self._wind_down()

    def _wind_down(self) -> None:
        """Once no task is left that could need them, send workers home; at last end."""
        if self.phase is Phase.DRAINING and not self.queue:
            for worker in self.roster.in_states(frozenset({IDLE})):
                self._stop(worker)
            if not self.tasks:
                for worker in self.roster.in_states(WARMING):
                    self._kill(worker, None)
        if self.phase in (Phase.DRAINING, Phase.CLOSING) and not (
            self.tasks or self.roster.workers
        ):
            self.phase = Phase.CLOSED
            for slot in self.roster.slots:
                slot.next_start_at = None
            self._kill_at = self._abandon_at = None
            self._refresh_health()
            self._out.append(ev.EndPool())

    # ------------------------------------------------------------------ time

    def _on_time(self, event: ev.TimePassed) -> None:
        for owner, id in self._deadlines.due(self._now):
            if owner is Owner.WORKER:
                self._worker_deadline_passed(self.roster.workers[id])
            elif owner is Owner.TASK:
                limit = self.tasks[id].spec.queue_timeout
                self._fail(id, Failure(FailureKind.QUEUE_TIMEOUT, limit=limit))
                self._wind_down()
            elif owner is Owner.SLOT:
                self._slot_delay_passed(self.roster.slots[id])
            else:
                self._pool_deadline_passed(id)

    def _worker_deadline_passed(self, worker: Worker) -> None:
        if worker.state in WARMING:
            limit = self.settings.init_timeout
            self._kill(worker, self._failure(FailureKind.INITIALIZER_TIMEOUT, worker, limit=limit))
        elif worker.state is BUSY:
            assert worker.task is not None
            limit_ = self.tasks[worker.task].spec.timeout
            failure = self._failure(FailureKind.TASK_TIMEOUT, worker, limit=limit_, started=True)
            self._kill(worker, failure)
        else:
            suspicion = worker.suspicion
            self._kill(worker, suspicion)
            if suspicion is not None and worker.ready_at is not None:
                self._out.append(ev.ReportFailure(suspicion, "it is killed and replaced"))

    def _slot_delay_passed(self, slot: Slot) -> None:
        slot.next_start_at = None
        if not self._wants_workers():
            return
        if self.roster.may_start(self._now):
            self._start(slot)
        else:
            self.roster.postpone(slot, self._now)

    def _holds(self, at: float, owner: Owner, id: int) -> bool:
        """Whether a noted deadline is still the one that counts."""
        current: float | None
        if owner is Owner.WORKER:
            worker = self.roster.workers.get(id)
            current = None if worker is None else worker.deadline
        elif owner is Owner.TASK:
            task = self.tasks.get(id)
            current = None if task is None else task.queue_deadline
        elif owner is Owner.SLOT:
            current = self.roster.slots[id].next_start_at
        else:
            current = self._kill_at if id == _KILL else self._abandon_at
        return current == at

    # ------------------------------------------------------------------ helpers

    def _begin(self, now: float) -> None:
        self._now = now
        self._out = []

    def _failure(self, kind: FailureKind, worker: Worker, **facts: Any) -> Failure:
        return self.roster.failure(kind, worker, self._now, **facts)

    def validate(self) -> None:
        """Assert what must always be true between two events."""
        roster = self.roster
        roster.validate()
        assert set(self.queue) == {id for id, task in self.tasks.items() if task.worker is None}
        assert not (self.queue and roster.idle), "a task waits while a worker is idle"
        held = {w.task: w.id for w in roster.workers.values() if w.task is not None}
        running = {id: task.worker for id, task in self.tasks.items() if task.worker is not None}
        assert held == running, "a running task and its worker must know each other"
        assert sum(self.settled.values()) + len(self.tasks) == self.submitted  # I10
        if roster.broken_at is not None:
            assert not self.queue, "a broken pool holds no task"
            assert not roster.in_states(WARM)
        if self._wants_workers():
            for slot in roster.vacant():
                assert slot.next_start_at is not None, "a slot is forgotten"
        if self.phase is not Phase.OPEN:
            assert not self.waiters  # I10
        if self.phase is Phase.CLOSING:
            assert not self.queue
        assert (self._kill_at is not None) + (self._abandon_at is not None) == (
            self.phase is Phase.CLOSING
        )
        if self.phase is Phase.CLOSED:
            assert not (self.tasks)
            assert not (roster.workers)
