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
from typing import Any

from warmpool import events as ev
from warmpool.census import Census, WorkerInfo
from warmpool.deadlines import Deadlines, Owner
from warmpool.ending import CLOSED, CLOSING, DRAINING, OPEN, Step
from warmpool.events import ExitReason, Failure, FailureKind
from warmpool.lifecycle import (
    BUSY,
    KILLING,
    LEAVING,
    LIVE,
    STOPPING,
    WARM,
    WARMING,
    Worker,
)
from warmpool.oversight import Oversight
from warmpool.state import JUST_BUSY, JUST_IDLE, Settings

GLANCE = 0.02
"""Seconds in which an answer is read that is there."""


class Core(Oversight):
    """The pool's decisions.

    Args:
        settings: The options.
        random: Gives random numbers in [0, 1), for jitter.
    """

    def __init__(self, settings: Settings, random: Callable[[], float]) -> None:
        deadlines = self._deadlines = Deadlines(self._holds)
        super().__init__(settings, random, deadlines)
        self.next_deadline = deadlines.next
        """When :class:`~warmpool.events.TimePassed` is to be said at the latest, or None."""
        self._handlers: dict[type[ev.Event], Callable[[Any], None]] = {
            ev.TaskSubmitted: self._on_submitted,
            ev.TaskTaken: self._on_taken,
            ev.TasksPassed: self._on_passed,
            ev.TaskCancelled: self._on_cancelled,
            ev.TaskWithdrawn: self._on_withdrawn,
            ev.TaskKillRequested: self._on_kill_requested,
            ev.WarmAwaited: self._on_warm_awaited,
            ev.WarmAbandoned: self._on_warm_abandoned,
            ev.ShutdownRequested: self._on_shutdown,
            ev.CloseRequested: self._on_close,
            ev.ReloadRequested: self._on_reload,
            ev.TimePassed: self._on_time,
            ev.HeartbeatsRead: self._on_heartbeats_read,
            ev.MemoryRead: self._on_memory_read,
            ev.TakenBack: self._on_taken_back,
            ev.WorkerSpawned: self._on_spawned,
            ev.WorkerStartFailed: self._on_start_failed,
            ev.WorkerGreeted: self._on_greeted,
            ev.WorkerReady: self._on_ready,
            ev.InitializerRaised: self._on_initializer_raised,
            ev.TaskDone: self._on_task_done,
            ev.WorkerBrokeProtocol: self._on_broke_protocol,
            ev.WorkerChannelClosed: self._on_channel_closed,
            ev.WorkerExited: self._on_exited,
            ev.StackTaken: self._on_stack_taken,
        }

    # ------------------------------------------------------------------ the interface

    def open(self, now: float) -> list[ev.Command]:
        """Start the first workers."""
        self._now = now
        self._adjust()
        self._refresh_health()
        return self._commands()

    def handle(self, event: ev.Event, now: float) -> list[ev.Command]:
        """Take in what happened and answer with what is to be done, in this order.

        Raises:
            InvalidTransition: The event does not fit. Nothing has changed.
        """
        assert not self._out
        self._now = now
        self._handlers[type(event)](event)
        roster = self.roster
        if type(event) is ev.TasksPassed:
            pass  # Nobody has come, gone or got anything to do. A TaskTaken may have to follow.
        # Mostly there is nothing to adjust in a pool of a fixed size.
        elif self._is_elastic or roster.due_idle or len(roster.workers) < len(roster.slots):
            self._adjust()
        return self._commands()

    def census(self, now: float) -> Census:
        """Count what there is."""
        ledger, workers = self.ledger, self.roster.workers.values()
        waiting = len(self.book.queue) + sum(len(worker.tray) for worker in workers)
        return Census(
            health=self.health,
            workers=dict(Counter(worker.state.value for worker in workers)),
            queued=waiting,
            running=len(self.book.tasks) - waiting,
            workers_started=self.roster.started,
            workers_failed=self.roster.failed,
            tasks_submitted=self.book.submitted,
            tasks_settled=dict(self.book.settled),
            worker_exits={reason.value: count for reason, count in ledger.exits.items()},
            tasks_failed={kind.value: count for kind, count in self.book.failed.items()},
            cold_starts=ledger.cold_starts,
            waits=ledger.waits.total,
            runs=ledger.runs.total,
            warm_ups=ledger.warm_ups.total,
            details=tuple(self._info(worker, now) for worker in workers),
        )

    def _info(self, worker: Worker, now: float) -> WorkerInfo:
        since, task = worker.moved_at, None
        if worker.task is not None:
            task = self.book.tasks[worker.task].spec
            if worker.state is BUSY:
                # With one after the other from its tray it is busy all the time.
                since = max(since, self.book.tasks[worker.task].started_at)
        return WorkerInfo(
            id=worker.id,
            pid=worker.pid,
            state=worker.state.value,
            task=worker.task,
            task_name=None if task is None else task.name,
            in_state=max(0.0, now - since),
            uptime=max(0.0, now - worker.started_at),
            tasks_done=worker.tasks_done,
            memory=worker.memory,
        )

    # ------------------------------------------------------------------ waiting for warmth

    def _on_warm_awaited(self, event: ev.WarmAwaited) -> None:
        self.waiters[event.waiter] = {w.slot for w in self.roster.in_states(WARM)}
        if self.phase is not OPEN:
            self._answer_warm(Failure(FailureKind.POOL_CLOSED))
        elif self.roster.broken_at is not None:
            self._answer_warm(self.roster.last_failure)
        else:
            self._answer_if_warm()

    def _on_warm_abandoned(self, event: ev.WarmAbandoned) -> None:
        self.waiters.pop(event.waiter, None)

    # ------------------------------------------------------------------ the end

    def _on_shutdown(self, event: ev.ShutdownRequested) -> None:
        if event.cancel_queued:
            for id in list(self.book.queue):
                if self.book.tasks[id].runs:
                    # It waits for another run, and its future cannot be cancelled any more.
                    self._fail(id, Failure(FailureKind.POOL_CLOSED, started=True))
                else:
                    self._drop(id)
            for id in sorted(self.roster.laid):
                self._withdraw_all(self.roster.workers[id])
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
        for id in sorted(self.roster.laid):
            self._take_back(self.roster.workers[id])
        for worker in self.roster.in_states(WARMING):
            self._kill(worker, None)
        for worker in self.roster.in_states(JUST_IDLE):
            self._stop(worker, ExitReason.CLOSED)
        if event.interrupts and self.ending.step is Step.KILL:
            for worker in self.roster.in_states(JUST_BUSY):
                if worker.task is not None:
                    self._interrupt(worker, None)
        self._wind_down()
        self._refresh_health()

    def _close_deadline_passed(self) -> None:
        if self.ending.step is Step.KILL:
            self.ending.killed(self._now)
            for worker in self.roster.in_states(LIVE):
                if worker.awaits_stack:
                    self._kill(worker, worker.suspicion)
                elif worker.state is not KILLING:
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
                slot = self.roster.slots[id]
                self.roster.unschedule(slot)
                if self._shortfall() > 0:
                    self.roster.delay_passed(slot, self._now)
                self._refresh_health()
            elif owner is Owner.SURPLUS:
                self._surplus_deadline_passed()
            elif owner is Owner.AGE:
                self._age_deadline_passed(self.roster.workers[id])
            elif owner is Owner.PULSE:
                self._heartbeat_deadline_passed()
            elif owner is Owner.SOFT:
                self._soft_deadline_passed(self.roster.workers[id])
            elif owner is Owner.MEMORY:
                self._memory_deadline_passed()
            elif owner is Owner.TRAY:
                self._tray_deadline_passed(self.roster.workers[id])
            else:
                self._close_deadline_passed()

    def _worker_deadline_passed(self, worker: Worker) -> None:
        if worker.state is BUSY and worker.tray and self._spare(worker):
            return
        failure = worker.suspicion
        if worker.state in WARMING:
            failure = self._failure(
                FailureKind.INITIALIZER_TIMEOUT, worker, limit=self.settings.init_timeout
            )
        elif worker.state is BUSY and worker.task is not None:
            # Until the flight recorder has been asked.
            task = self.book.tasks[worker.task]
            kind = FailureKind.TASK_TIMEOUT
            if task.kill_requested and (
                task.spec.timeout is None or task.started_at + task.spec.timeout > self._now
            ):
                kind = FailureKind.KILL_REQUESTED
            failure = self._failure(kind, worker, limit=task.spec.timeout, started=True)
        elif worker.state is STOPPING and failure is not None and worker.ready_at is not None:
            self._out.append(ev.ReportFailure(failure, "it is killed and replaced"))
        if failure is not None and worker.state in WARMING | WARM:
            self._condemn(worker, failure)
        else:
            self._kill(worker, failure)

    def _spare(self, worker: Worker) -> bool:
        """Has it answered, and gone on with what was laid out for it? No limit is to end that.

        If so, the answer is there by now, and will be read before this deadline comes up again.
        """
        assert worker.task is not None
        task = self.book.tasks[worker.task]
        if task.was_spared:
            return False
        task.was_spared = True
        self._take_back(worker)
        self.roster.set_deadline(worker, self._now + GLANCE)
        return True

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
        if owner is Owner.PULSE:
            return self.pulses.next_at == at
        if owner is Owner.SOFT:
            worker = self.roster.workers.get(id)
            return worker is not None and worker.soft_at == at
        if owner is Owner.TRAY:
            worker = self.roster.workers.get(id)
            return worker is not None and worker.tray_at == at
        if owner is Owner.MEMORY:
            return self._memory_at == at
        if owner is Owner.SURPLUS:
            return self._surplus_at == at
        if owner is Owner.AGE:
            worker = self.roster.workers.get(id)
            return worker is not None and worker.aged_at == at
        return self.ending.at == at and self.ending.step == id

    # ------------------------------------------------------------------ checking

    def validate(self) -> None:
        """Assert what must always be true between two events."""
        roster, book = self.roster, self.book
        roster.validate()
        book.validate()
        self.ending.validate()
        assert not (book.queue and roster.idle), "a task waits while a worker is idle"
        # One tray after the other is emptied for those who have nothing to do.
        is_shared = roster.recalled or not (roster.laid and roster.idle)
        assert is_shared, "a task is laid out while a worker is idle"
        held = {w.task: w.id for w in roster.workers.values() if w.task is not None}
        held |= {task: w.id for w in roster.workers.values() for task in w.tray}
        running = {id: task.worker for id, task in book.tasks.items() if task.worker is not None}
        assert held == running, "a running task and its worker must know each other"
        if roster.broken_at is not None:
            assert not book.queue, "a broken pool holds no task"
            assert not roster.stages[WARM]
        assert self._shortfall() <= 0, "a slot is forgotten"
        if self.settings.min_idle is None and self._wants_workers():
            for slot in roster.slots:
                assert slot.worker is not None or slot.next_start_at is not None
        for id in roster.due:
            somebody = roster.coming or roster.stages[LEAVING]
            assert roster.workers[id].state is BUSY or somebody, "who is due could stay for ever"
        if self.phase is not OPEN:
            assert not self.waiters  # I10
        if self.phase is CLOSING:
            assert not book.queue
        if self.phase is CLOSED:
            assert not book.tasks
            assert not roster.workers
