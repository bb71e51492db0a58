"""The whole pool as a value: ``handle(event, now)`` answers with commands.

Rules:

1. No clock, no thread, no process, no randomness of its own: now and random numbers are given.
   A test says which modules this one may not import.
2. Each event is handled to its end: when ``handle`` returns, :meth:`Core.validate` holds.
3. An event that does not fit is refused with ``InvalidTransition`` and changes nothing; but what a
   *worker* says out of turn is not refused, it is a broken protocol and costs that worker (I13).
4. Every task and every waiter gets exactly one answer (I10).

The bound on a future, by construction: a queued task waits for a worker to get idle or for the
pool to be broken; each start is bounded by ``init_timeout``, each wait between two by the longest
delay, and their number by the restart intensity. A running one is bounded by its own limit or by
its worker's death.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from warmpool import events as ev
from warmpool.deadlines import Deadlines, Owner
from warmpool.ending import CLOSED, CLOSING, DRAINING, OPEN, Ending, Phase, Step
from warmpool.events import Failure, FailureKind
from warmpool.lifecycle import (
    BUSY,
    IDLE,
    KILLING,
    LIVE,
    STOPPING,
    WARM,
    WARMING,
    Input,
    InvalidTransition,
    Worker,
)
from warmpool.restart import RestartPolicy
from warmpool.roster import Roster
from warmpool.tasks import Task, TaskBook

LINGER = 0.5
"""Seconds between a worker's end of file and its kill: closing descriptors is the last but one
thing that the kernel does for a dying process, so nearly always its exit follows at once."""

_JUST_IDLE = frozenset({IDLE})


@dataclass(frozen=True, slots=True)
class Settings:
    """What the core needs to know of the pool's options. Durations in seconds."""

    max_workers: int
    init_timeout: float = 60.0
    grace: float = 5.0
    max_tasks_per_child: int | None = None
    max_queue: int | None = None
    restart: RestartPolicy = field(default_factory=RestartPolicy)


class Core:
    """The pool's decisions.

    Args:
        settings: The options.
        random: Gives random numbers in [0, 1), for jitter.
    """

    def __init__(self, settings: Settings, random: Callable[[], float]) -> None:
        self.settings = settings
        self.health = ev.Health.WARMING
        self.waiters: dict[int, None] = {}
        self._now = 0.0
        self._out: list[ev.Command] = []
        deadlines = self._deadlines = Deadlines(self._holds)
        self.next_deadline = deadlines.next
        """When :class:`~warmpool.events.TimePassed` is to be said at the latest, or None."""
        self.ending = Ending(deadlines)
        self.book = TaskBook(deadlines)
        self.roster = Roster(
            settings.max_workers,
            settings.init_timeout,
            settings.restart,
            random,
            deadlines,
            self._emit,
        )
        self._handlers: dict[type[ev.Event], Callable[[Any], None]] = {
            ev.TaskSubmitted: self._on_submitted,
            ev.TaskTaken: self._on_taken,
            ev.TaskCancelled: self._on_cancelled,
            ev.TaskKillRequested: self._on_kill_requested,
            ev.WarmAwaited: self._on_warm_awaited,
            ev.WarmAbandoned: self._on_warm_abandoned,
            ev.ShutdownRequested: self._on_shutdown,
            ev.CloseRequested: self._on_close,
            ev.TimePassed: self._on_time,
            ev.WorkerSpawned: self._on_spawned,
            ev.WorkerStartFailed: self._on_start_failed,
            ev.WorkerGreeted: self._on_greeted,
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
        self.roster.place_all(now)
        return self._out

    def handle(self, event: ev.Event, now: float) -> list[ev.Command]:
        """Take in what happened and answer with what is to be done, in this order.

        Raises:
            InvalidTransition: The event does not fit. Nothing has changed.
        """
        self._begin(now)
        self._handlers[type(event)](event)
        return self._out

    @property
    def phase(self) -> Phase:
        """How far the pool is on its way to its end."""
        return self.ending.phase

    def census(self) -> ev.Census:
        """Count what there is."""
        waiting = len(self.book.queue)
        return ev.Census(
            health=self.health,
            workers=dict(Counter(w.state.value for w in self.roster.workers.values())),
            queued=waiting,
            running=len(self.book.tasks) - waiting,
            workers_started=self.roster.started,
            workers_failed=self.roster.failed,
            tasks_submitted=self.book.submitted,
            tasks_settled=dict(self.book.settled),
        )

    def _begin(self, now: float) -> None:
        self._now = now
        self._out = []

    def _emit(self, command: ev.Command) -> None:
        self._out.append(command)

    # ------------------------------------------------------------------ tasks

    def _on_submitted(self, event: ev.TaskSubmitted) -> None:
        spec = event.task
        if spec.id in self.book.tasks:
            raise InvalidTransition(f"task {spec.id} was submitted before")
        self.book.add(spec)
        limit = self.settings.max_queue
        if self.ending.phase is not OPEN:
            self._fail(spec.id, Failure(FailureKind.POOL_CLOSED))
        elif limit is not None and len(self.book.queue) >= limit and not self.roster.idle:
            self._fail(spec.id, Failure(FailureKind.POOL_SATURATED, limit=limit))
        else:
            self._enqueue(spec.id)

    def _enqueue(self, id: int, *, first: bool = False) -> None:
        task = self.book.tasks[id]
        if self.roster.broken_at is not None:
            self._fail(id, Failure(FailureKind.POOL_BROKEN, cause=self.roster.last_failure))
        elif self.roster.idle:
            self._dispatch(task)  # A worker is idle, so nobody waits: see validate().
        else:
            self.book.enqueue(task, self._now, first=first)

    def _assign(self) -> None:
        while self.book.queue and self.roster.idle:
            self._dispatch(self.book.take_next())

    def _dispatch(self, task: Task) -> None:
        # The worker that was idle for the shortest time: its caches are warm.
        worker = self.roster.workers[next(reversed(self.roster.idle))]
        self._engage(worker, task, ev.DispatchTask, self._now)
        self._out.append(ev.DispatchTask(worker.id, task.spec.id))

    def _engage(self, worker: Worker, task: Task, cause: Input, at: float) -> None:
        """The worker has the task from now on; its time limit runs from its dispatch."""
        self.roster.move(worker, cause, self._now)
        task.worker, worker.task = worker.id, task.spec.id
        task.runs += 1
        if task.spec.timeout is not None:
            self.roster.set_deadline(worker, at + task.spec.timeout)

    def on_loan(self, most: int) -> list[int]:
        """Which workers may be lent to callers, the best first: see :mod:`warmpool.lease`.

        They are idle and stay so until the next event, so nothing waits in the queue meanwhile.
        """
        if self.ending.phase is not OPEN:
            return []
        return list(islice(reversed(self.roster.idle), most))

    def _on_taken(self, event: ev.TaskTaken) -> None:
        worker = self.roster[event.worker]
        if event.task.id in self.book.tasks or worker.state is not IDLE:
            raise InvalidTransition(f"worker {event.worker} was not on loan for {event.task}")
        self._engage(worker, self.book.add(event.task), ev.TaskTaken, event.at)

    def _on_cancelled(self, event: ev.TaskCancelled) -> None:
        task = self.book.tasks.get(event.task)
        if task is None:
            return  # Answered in the same instant.
        if task.worker is None:
            self._drop(event.task)
            self._wind_down()
            return
        # It was cancelled in the instant of dispatch, and not sent.
        worker = self.roster.workers[task.worker]
        self.roster.move(worker, ev.TaskCancelled, self._now)
        worker.task = None
        self.roster.set_deadline(worker, None)
        self.book.forget(event.task, "cancelled")
        self._after_task(worker)

    def _on_kill_requested(self, event: ev.TaskKillRequested) -> None:
        task = self.book.tasks.get(event.task)
        if task is None:
            return
        if task.worker is None and task.runs:
            # It waits for another run, and its future cannot be cancelled any more.
            self._fail(event.task, Failure(FailureKind.KILL_REQUESTED, started=True))
        elif task.worker is None:
            self._drop(event.task)
        else:
            task.retries = 0  # Else it would run again, against the wish of its owner.
            worker = self.roster.workers[task.worker]
            self._kill(worker, self._failure(FailureKind.KILL_REQUESTED, worker, started=True))
        self._wind_down()

    def _on_task_done(self, event: ev.TaskDone) -> None:
        worker = self.roster[event.worker]
        if worker.task != event.task or worker.state is not BUSY:
            if worker.state is BUSY:
                self._break_protocol(worker, f"answered task {event.task}, which it does not have")
            else:
                self._heard(worker, ev.TaskDone)
            return
        self.roster.move(worker, ev.TaskDone, self._now)
        worker.task = worker.deadline = None
        worker.tasks_done += 1
        self.roster.slots[worker.slot].failures = 0
        self.book.forget(event.task, event.outcome.value)
        self._out.append(ev.SettleTask(event.task, event.outcome, event.payload))
        self._after_task(worker)

    def _after_task(self, worker: Worker) -> None:
        limit = self.settings.max_tasks_per_child
        if self.ending.phase is CLOSING or (limit is not None and worker.tasks_done >= limit):
            self.roster.stop(worker, self._now, self.settings.grace)
        elif self.book.queue:
            self._assign()
        if self.ending.phase is not OPEN:
            self._wind_down()

    def _fail(self, id: int, failure: Failure) -> None:
        self.book.forget(id, "failed")
        self._out.append(ev.SettleTask(id, failure=failure))

    def _drop(self, id: int) -> None:
        self.book.forget(id, "cancelled")
        self._out.append(ev.DropTask(id))

    def _fail_or_rerun(self, id: int, failure: Failure) -> None:
        task = self.book.tasks[id]
        if self.phase in (OPEN, DRAINING) and task.may_rerun(failure):
            self._enqueue(id, first=not failure.started)
            if self._wants_workers():
                self.roster.place_all(self._now)
        else:
            self._fail(id, failure)

    # ------------------------------------------------------------------ what workers say

    def _heard(self, worker: Worker, cause: type[ev.WorkerEvent]) -> bool:
        """Move the worker by what it said; False if it may not say that now."""
        if worker.allows(cause):
            self.roster.move(worker, cause, self._now)
            return True
        self._break_protocol(worker, f"said {cause.__name__} while {worker.state.value}")
        return False

    def _on_greeted(self, event: ev.WorkerGreeted) -> None:
        self._heard(self.roster[event.worker], ev.WorkerGreeted)

    def _on_ready(self, event: ev.WorkerReady) -> None:
        worker = self.roster[event.worker]
        if not self._heard(worker, ev.WorkerReady) or worker.state is not IDLE:
            return
        worker.ready_at = self._now
        self.roster.set_deadline(worker, None)
        if self.roster.broken_at is not None:
            self.roster.heal(self._now, refill=self._wants_workers())
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
            return  # Its answer was given when that was decided.
        # It could say something, so its task, if it has one, did not get lost on the way: only
        # the flight recorder, where it was asked, can vouch for the contrary.
        started = worker.task is not None and last_started in (worker.task, None)
        failure = self._failure(FailureKind.BROKE_PROTOCOL, worker, detail=detail, started=started)
        if worker.ready_at is not None:
            self._out.append(ev.ReportFailure(failure, "it is killed and replaced"))
        self._kill(worker, failure, ev.WorkerBrokeProtocol)

    def _on_channel_closed(self, event: ev.WorkerChannelClosed) -> None:
        worker = self.roster[event.worker]
        if worker.state in WARM or worker.state in WARMING:
            worker.suspicion = self._failure(
                FailureKind.BROKE_PROTOCOL,
                worker,
                detail="closed its channel and lived on",
                started=worker.task is not None,
            )
            self.roster.set_deadline(worker, self._now + LINGER)
        self._heard(worker, ev.WorkerChannelClosed)
        self._refresh_health()

    # ------------------------------------------------------------------ birth and death

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
        # One that died by itself after its end of file died of what it did before that.
        stage = before.value if worker.suspicion is None else worker.suspicion.stage
        started = worker.task is not None and worker.task == event.last_started
        failure = self._failure(
            FailureKind.DIED, worker, stage=stage, exitcode=event.exitcode, started=started
        )
        task, worker.task = worker.task, None
        if started or self.roster.proved_itself(worker, self._now):
            self.roster.slots[worker.slot].failures = 0
            self._out.append(ev.ReportFailure(failure, "it is replaced"))
        else:
            self._start_failed(worker, failure)
        if task is not None:
            self._fail_or_rerun(task, failure)
        self._bury(worker)

    def _kill(
        self,
        worker: Worker,
        failure: Failure | None,
        cause: type[ev.KillWorker | ev.WorkerBrokeProtocol] = ev.KillWorker,
    ) -> None:
        """Kill a worker. Its task fails of the failure; so does its start, if it was not warm."""
        warm_once = worker.ready_at is not None
        # An initializer that raised was counted then.
        counts = worker.state is not STOPPING or worker.suspicion is not None
        task = self.roster.kill(worker, self._now, cause)
        if failure is not None and counts and not warm_once:
            self._start_failed(worker, failure)
        if task is not None:
            assert failure is not None  # I10
            self._fail_or_rerun(task, failure)
        self._refresh_health()

    def _bury(self, worker: Worker) -> None:
        slot = self.roster.bury(worker)
        if self._wants_workers():
            self.roster.place(slot, self._now)
        self._wind_down()
        self._refresh_health()

    def _start_failed(self, worker: Worker, failure: Failure) -> None:
        roster = self.roster
        unwell = roster.count_failure(worker, failure, self._now)
        consequence = f"failure {roster.slots[worker.slot].failures} in a row of its slot"
        if unwell and roster.broken_at is None and not roster.in_states(WARM):
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
        health = self.roster.health() if self.phase is OPEN else ev.Health.CLOSED
        if health is not self.health:
            self.health = health
            self._out.append(ev.ChangeHealth(health, self.roster.last_failure))

    # ------------------------------------------------------------------ waiting for warmth

    def _on_warm_awaited(self, event: ev.WarmAwaited) -> None:
        self.waiters[event.waiter] = None
        if self.phase is not OPEN:
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
            for id in list(self.book.queue):
                self._drop(id)
        if self.phase is OPEN:
            self.ending.phase = DRAINING
            self._answer_warm(Failure(FailureKind.POOL_CLOSED))
        self._wind_down()
        self._refresh_health()

    def _on_close(self, event: ev.CloseRequested) -> None:
        if self.phase is CLOSED:
            return
        self.ending.close_by(self._now, self.settings.grace, event.timeout)
        self._answer_warm(Failure(FailureKind.POOL_CLOSED))
        for id in list(self.book.queue):
            self._fail(id, Failure(FailureKind.POOL_CLOSED))
        for worker in self.roster.in_states(WARMING):
            self._kill(worker, None)
        for worker in self.roster.in_states(_JUST_IDLE):
            self.roster.stop(worker, self._now, self.settings.grace)
        self._wind_down()
        self._refresh_health()

    def _close_deadline_passed(self) -> None:
        if self.ending.step is Step.KILL:
            self.ending.killed(self._now)
            for worker in self.roster.in_states(LIVE - {KILLING}):
                failure = None
                if worker.task is not None:
                    failure = self._failure(FailureKind.POOL_CLOSED, worker, started=True)
                self._kill(worker, failure)
        else:
            for worker in self.roster.in_states(LIVE):
                self.roster.move(worker, ev.AbandonWorker, self._now)
                self._out.append(ev.AbandonWorker(worker.id))
                self._bury(worker)
        self._wind_down()

    def _wind_down(self) -> None:
        """Send home the workers that no task can need any more; at last, end."""
        if self.phase is DRAINING and not self.book.queue:
            for worker in self.roster.in_states(_JUST_IDLE):
                self.roster.stop(worker, self._now, self.settings.grace)
            if not self.book.tasks:
                for worker in self.roster.in_states(WARMING):
                    self._kill(worker, None)
        if self.phase in (DRAINING, CLOSING) and not (self.book.tasks or self.roster.workers):
            self.ending.ended()
            for slot in self.roster.slots:
                slot.next_start_at = None
            self._refresh_health()
            self._out.append(ev.EndPool())

    # ------------------------------------------------------------------ time

    def _on_time(self, event: ev.TimePassed) -> None:
        for owner, id in self._deadlines.due(self._now):
            if owner is Owner.WORKER:
                self._worker_deadline_passed(self.roster.workers[id])
            elif owner is Owner.TASK:
                limit = self.book.tasks[id].spec.queue_timeout
                self._fail(id, Failure(FailureKind.QUEUE_TIMEOUT, limit=limit))
                self._wind_down()
            elif owner is Owner.SLOT:
                if self._wants_workers():
                    self.roster.delay_passed(self.roster.slots[id], self._now)
                else:
                    self.roster.slots[id].next_start_at = None
            else:
                self._close_deadline_passed()

    def _worker_deadline_passed(self, worker: Worker) -> None:
        failure = worker.suspicion
        if worker.state in WARMING:
            failure = self._failure(
                FailureKind.INITIALIZER_TIMEOUT, worker, limit=self.settings.init_timeout
            )
        elif worker.state is BUSY and worker.task is not None:
            # Whether it had started is read from the flight recorder, where that is to be had.
            limit = self.book.tasks[worker.task].spec.timeout
            failure = self._failure(FailureKind.TASK_TIMEOUT, worker, limit=limit, started=True)
        elif failure is not None and worker.ready_at is not None:
            self._out.append(ev.ReportFailure(failure, "it is killed and replaced"))
        self._kill(worker, failure)

    def _holds(self, at: float, owner: Owner, id: int) -> bool:
        """Whether a noted deadline is still the one that counts."""
        if owner is Owner.WORKER:
            worker = self.roster.workers.get(id)
            return worker is not None and worker.deadline == at
        if owner is Owner.TASK:
            task = self.book.tasks.get(id)
            return task is not None and task.queue_deadline == at
        if owner is Owner.SLOT:
            return self.roster.slots[id].next_start_at == at
        return self.ending.at == at and self.ending.step == id

    def _failure(self, kind: FailureKind, worker: Worker, **facts: Any) -> Failure:
        return self.roster.failure(kind, worker, self._now, **facts)

    # ------------------------------------------------------------------ checking

    def validate(self) -> None:
        """Assert what must always be true between two events."""
        roster, book = self.roster, self.book
        roster.validate()
        book.validate()
        self.ending.validate()
        assert not (book.queue and roster.idle), "a task waits while a worker is idle"
        held = {w.task: w.id for w in roster.workers.values() if w.task is not None}
        running = {id: task.worker for id, task in book.tasks.items() if task.worker is not None}
        assert held == running, "a running task and its worker must know each other"
        if roster.broken_at is not None:
            assert not book.queue, "a broken pool holds no task"
            assert not roster.in_states(WARM)
        if self._wants_workers():
            for slot in roster.slots:
                vacant = slot.worker is None
                assert not vacant or slot.next_start_at is not None, "a slot is forgotten"
        if self.phase is not OPEN:
            assert not self.waiters  # I10
        if self.phase is CLOSING:
            assert not book.queue
        if self.phase is CLOSED:
            assert not book.tasks
            assert not roster.workers
