"""Rules of the core: a worker from birth to death, and what it says in between."""

from __future__ import annotations

import dataclasses

from warmpool import events as ev
from warmpool import notices
from warmpool.events import ExitReason, Failure, FailureKind
from warmpool.lifecycle import (
    BUSY,
    IDLE,
    KILLING,
    STOPPING,
    WARM,
    WARMING,
    InvalidTransition,
    Worker,
)
from warmpool.tasks import Task
from warmpool.trays import Trays

LINGER = 0.5
"""Seconds between a worker's end of file and its kill: closing descriptors is the last but one
thing that the kernel does for a dying process, so nearly always its exit follows at once."""


_REASONS = {
    FailureKind.INITIALIZER_TIMEOUT: ExitReason.INITIALIZER_FAILED,
    FailureKind.BROKE_PROTOCOL: ExitReason.BROKE_PROTOCOL,
    FailureKind.TASK_TIMEOUT: ExitReason.TIMED_OUT,
    FailureKind.KILL_REQUESTED: ExitReason.KILLED,
    FailureKind.UNRESPONSIVE: ExitReason.UNRESPONSIVE,
    FailureKind.OUT_OF_MEMORY: ExitReason.OUT_OF_MEMORY,
    FailureKind.POOL_CLOSED: ExitReason.CLOSED,
}
"""Why a worker is gone that was killed for a failure."""


_OUT_OF_MEMORY = "by the kernel's out-of-memory killer, as its counter says"

_FOR_ANOTHER = "by the pool, for what another task of the same worker had done"

_OUR_DECISIONS = frozenset({FailureKind.UNRESPONSIVE, FailureKind.OUT_OF_MEMORY})
"""Ends of warm workers that are logged: no task's limit tells its owner of them."""


class Staffing(Trays):
    """Workers come, say something, and go."""

    # ------------------------------------------------------------------ what workers say

    def _on_task_done(self, event: ev.TaskDone) -> None:
        worker = self.roster[event.worker]
        if worker.task != event.task or worker.state is not BUSY:
            if worker.state is BUSY:
                self._break_protocol(worker, f"answered task {event.task}, which it does not have")
            else:
                self._heard(worker, ev.TaskDone)
            return
        task = self.book.tasks[event.task]
        worker.deadline = None
        worker.noted = self._end_run(worker, began=True)
        worker.tasks_done += 1
        self.roster.forgive(worker)
        self._forget(event.task, event.outcome.value)
        started_at = task.started_at if task.was_laid_out else None
        self._out.append(ev.SettleTask(event.task, event.outcome, event.payload, None, started_at))
        self._was_quick(worker, self._now - task.started_at)
        self._go_on(worker, ev.TaskDone)

    def _on_passed(self, event: ev.TasksPassed) -> None:
        worker = self.roster[event.worker]
        if worker.state is not IDLE or self.settings.is_observed:
            raise InvalidTransition(f"worker {event.worker} was not on loan for several tasks")
        waits, runs = self.ledger.waits, self.ledger.runs
        for task in event.tasks:
            self.book.count_passed(task.outcome.value)
            runs.seconds += task.done_at - task.taken_at
        count, last = len(event.tasks), event.tasks[-1]
        waits.count += count
        runs.count += count
        worker.tasks_done += count
        worker.noted = last.spec.id
        self.roster.forgive(worker)
        self.roster.note_passed(worker, last.taken_at, last.done_at)
        if self._is_elastic:
            self._has_become_idle()

    def _on_kill_requested(self, event: ev.TaskKillRequested) -> None:
        task = self.book.tasks.get(event.task)
        if task is None:
            return
        if task.worker is None and task.runs:
            # It waits for another run, and its future cannot be cancelled any more.
            started = task.may_have_begun
            self._fail(event.task, Failure(FailureKind.KILL_REQUESTED, started=started))
        elif task.worker is None:
            self._drop(event.task)
        elif (worker := self.roster.workers[task.worker]).state is KILLING:
            # It is being killed already; see to it that it is not run elsewhere.
            task.retries = task.free_runs = 0
        elif worker.task != event.task or worker.tray:
            # Which of them has it begun with? None of the others is to die of this.
            task.end_requested = event
            task.retries = task.free_runs = 0
            self._take_back(worker)
        elif event.grace is not None:
            self._ask_to_end(task, worker, event.grace)
        else:
            # Else it would run again, against the wish of its owner.
            task.retries = task.free_runs = 0
            self._kill(worker, self._failure(FailureKind.KILL_REQUESTED, worker, started=True))
        self._wind_down()

    def _ask_to_end(self, task: Task, worker: Worker, grace: float) -> None:
        """Kill a worker after a grace, in which its task may clean up."""
        task.retries = task.free_runs = 0
        if worker.state is not BUSY:
            return  # It is leaving, within a bound.
        task.kill_requested = True
        kill_at = self._now + grace
        if worker.deadline is None or kill_at < worker.deadline:
            self.roster.set_deadline(worker, kill_at)
        self._interrupt(worker, None)

    def _soft_deadline_passed(self, worker: Worker) -> None:
        worker.soft_at = None
        if worker.state is BUSY and worker.task is not None:
            self._interrupt(worker, self.book.tasks[worker.task].spec.soft_timeout)

    def _interrupt(self, worker: Worker, limit: float | None) -> None:
        assert worker.task is not None
        # If this thread is late, both limits may have passed; less than nothing would say "never".
        ends = [at for at in (worker.deadline, self.ending.at) if at is not None]
        left = max(0.0, min(ends) - self._now) if ends else None
        self._out.append(ev.InterruptTask(worker.id, worker.task, limit, left))

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
        warmed_up_in = self._now - worker.started_at
        self.ledger.warm_ups.add(warmed_up_in)
        if self.settings.is_observed:
            self._tell(notices.WorkerReady(self._now, worker.id, worker.pid, warmed_up_in))
        self.roster.set_deadline(worker, None)
        self._watch_over(worker)
        if self.roster.broken_at is not None:
            self.roster.heal()
        waiting = len(self.book.queue)
        self._assign()
        self._share()
        self.ledger.cold_starts += waiting - len(self.book.queue)
        self._limit_age(worker)
        self._retire_if_outdated(worker)
        self._has_become_idle()
        self._wind_down()
        for seen in self.waiters.values():
            seen.add(worker.slot)
        self._answer_if_warm()
        self._refresh_health()

    def _on_initializer_raised(self, event: ev.InitializerRaised) -> None:
        worker = self.roster[event.worker]
        failure = self._failure(FailureKind.INITIALIZER_RAISED, worker, remote=event.remote)
        if self._heard(worker, ev.InitializerRaised) and worker.state is STOPPING:
            self.roster.set_deadline(worker, self._now + LINGER)
            self._start_failed(worker, failure)

    def _on_broke_protocol(self, event: ev.WorkerBrokeProtocol) -> None:
        worker = self.roster[event.worker]
        self._put_back_what_it_left(worker, event.left)
        # One that lay in the tray has not started; one behind it may have, as that was emptied.
        lay = worker.task in event.left
        self._break_protocol(worker, event.detail, worker.noted if lay else event.last_started)
        self._assign()

    def _break_protocol(self, worker: Worker, detail: str, last_started: int | None = None) -> None:
        if worker.state is KILLING:
            return  # Its answer was given when that was decided.
        # It could say something, so its task, if it has one, did not get lost on the way: only
        # the flight recorder, where it was asked, can vouch for the contrary.
        started = worker.task is not None and (
            last_started is None or worker.may_have_started(last_started)
        )
        failure = self._failure(FailureKind.BROKE_PROTOCOL, worker, detail=detail, started=started)
        if worker.ready_at is not None:
            self._out.append(ev.ReportFailure(failure, "it is killed and replaced"))
        self._kill(worker, failure, ev.WorkerBrokeProtocol)

    def _on_channel_closed(self, event: ev.WorkerChannelClosed) -> None:
        worker = self.roster[event.worker]
        if worker.state in WARM or worker.state in WARMING:
            self._take_back(worker)
            worker.suspicion = self._failure(
                FailureKind.BROKE_PROTOCOL,
                worker,
                detail="closed its channel and lived on",
                started=worker.task is not None,
            )
            self.roster.set_deadline(worker, self._now + LINGER)
        self._heard(worker, ev.WorkerChannelClosed)
        self._refresh_health()

    def _watch_over(self, worker: Worker) -> None:
        """A worker is there whose memory, or heartbeats if it is warm, are to be looked at."""
        raise NotImplementedError

    # ------------------------------------------------------------------ birth and death

    def _on_spawned(self, event: ev.WorkerSpawned) -> None:
        worker = self.roster[event.worker]
        self.roster.move(worker, ev.WorkerSpawned, self._now)
        worker.pid = event.pid
        if self.settings.is_observed:
            self._tell(notices.WorkerStarted(self._now, worker.id, event.pid))
        self._watch_over(worker)

    def _on_start_failed(self, event: ev.WorkerStartFailed) -> None:
        worker = self.roster[event.worker]
        before = self.roster.move(worker, ev.WorkerStartFailed, self._now)
        if before is not KILLING:
            self._start_failed(worker, event.failure)
        self._bury(worker)

    def _on_exited(self, event: ev.WorkerExited) -> None:
        worker = self.roster[event.worker]
        before = self.roster.move(worker, ev.WorkerExited, self._now)
        if event.left:
            self._put_back_what_it_left(worker, event.left)
            self._assign()
        if before is KILLING:
            if worker.deadline is not None:
                # It died before its kill, of which it was to tell where it is.
                assert worker.suspicion is not None
                worker.reason = _REASONS[worker.suspicion.kind]
                self._pay(worker, self._verdict(worker, event.stack, event.last_started))
            self._bury(worker, event.last_started)
            return
        if before is STOPPING and worker.suspicion is None:
            self._bury(worker, event.last_started)
            return
        # One that died by itself after its end of file died of what it did before that.
        stage = before.value if worker.suspicion is None else worker.suspicion.stage
        started = worker.may_have_started(event.last_started)
        failure = self._failure(
            FailureKind.DIED,
            worker,
            stage=stage,
            exitcode=event.exitcode,
            started=started,
            stack=event.stack,
            detail=_OUT_OF_MEMORY if event.out_of_memory else None,
        )
        task = None if worker.task is None else self._end_run(worker, began=started)
        if started or self.roster.proved_itself(worker, self._now):
            self.roster.forgive(worker)
            if task is not None:
                self._fail_or_rerun(task, failure)  # First: somebody waits for it.
            self._out.append(ev.ReportFailure(failure, "it is replaced"))
        else:
            self._start_failed(worker, failure)
            if task is not None:
                self._fail_or_rerun(task, failure)
        self._bury(worker, event.last_started)

    def _kill(
        self,
        worker: Worker,
        failure: Failure | None,
        cause: type[ev.KillWorker | ev.WorkerBrokeProtocol] = ev.KillWorker,
    ) -> None:
        """Kill a worker. Its task fails of the failure; so does its start, if it was not warm."""
        # An initializer that raised was counted then.
        counts = worker.state is not STOPPING or worker.suspicion is not None
        reason = ExitReason.CLOSED if failure is None else _REASONS[failure.kind]
        self._take_back(worker)
        self.roster.kill(worker, self._now, reason, cause)
        if failure is None:
            assert worker.task is None  # I10
        elif counts or worker.task is not None:
            self._pay(worker, failure)
        self._refresh_health()

    def _pay(self, worker: Worker, failure: Failure) -> None:
        """What a worker's end costs: its start, if it was not warm yet, and its task."""
        if worker.ready_at is None:
            self._start_failed(worker, failure)
        elif failure.kind in _OUR_DECISIONS:
            self._out.append(ev.ReportFailure(failure, "it is killed and replaced"))
        if worker.id in self.roster.recalled:
            worker.suspicion = failure  # Until it is known whether its task lay in its tray.
        elif worker.task is not None:
            self._fail_or_rerun(self._end_run(worker, began=failure.started), failure)

    def _end_run(self, worker: Worker, *, began: bool) -> int:
        """Take its task from a worker, and give it."""
        id, worker.task = worker.task, None
        worker.soft_at = None
        assert id is not None
        if began:
            runs = self.ledger.runs
            runs.count += 1
            runs.seconds += self._now - self.book.tasks[id].started_at
        return id

    def _condemn(self, worker: Worker, failure: Failure) -> None:
        """Kill a worker, but have its stack first; then go on in :meth:`_on_stack_taken`."""
        if worker.pid is None:
            self._kill(worker, failure)
        else:
            # First: it may answer its task, and go on with another, before it hears of this.
            self._take_back(worker)
            self.roster.condemn(worker, failure, self._now)
            self._refresh_health()

    def _on_stack_taken(self, event: ev.StackTaken) -> None:
        worker = self.roster[event.worker]
        self.roster.move(worker, ev.StackTaken, self._now)
        if worker.awaits_stack:
            self._kill(worker, self._verdict(worker, event.stack, event.last_started))

    def _verdict(self, worker: Worker, stack: str | None, last_started: int) -> Failure:
        """What a worker is killed for, with what is known only now."""
        assert worker.suspicion is not None
        started = worker.may_have_started(last_started)
        return dataclasses.replace(worker.suspicion, stack=stack, started=started)

    def _bury(self, worker: Worker, last_started: int | None = None) -> None:
        while worker.tray:
            # It was taken as the tray was being emptied, or its answer is not believed, behind what
            # another task has written.
            is_our_kill = worker.reason is not None
            failure = self._failure(
                FailureKind.DIED,
                worker,
                stage="busy",
                started=last_started != worker.noted,
                exitcode=-9 if is_our_kill else None,
                detail=_FOR_ANOTHER if is_our_kill else None,
            )
            id = worker.tray.popleft()
            self.book.tasks[id].runs += 1  # It was handed over, and is cancelled no more.
            self._fail_or_rerun(id, failure)
        self._clear_tray(worker)
        self.roster.bury(worker)
        reason = worker.reason or ExitReason.DIED
        self.ledger.exits[reason] += 1
        if self.settings.is_observed:
            uptime = self._now - worker.started_at
            self._tell(
                notices.WorkerExited(
                    self._now, worker.id, worker.pid, reason.value, uptime, worker.tasks_done
                )
            )
        self._share()
        self._adjust()
        self._wind_down()
        self._refresh_health()
