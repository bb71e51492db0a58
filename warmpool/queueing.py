"""Rules of the core: a task from its submission to a worker, and back if that fails it."""

from __future__ import annotations

from itertools import islice

from warmpool import events as ev
from warmpool import notices
from warmpool.deadlines import Owner
from warmpool.ending import CLOSING, OPEN
from warmpool.events import ExitReason, Failure, FailureKind
from warmpool.lifecycle import IDLE, Input, InvalidTransition, Worker
from warmpool.sizing import Sizing
from warmpool.tasks import Task

MOST_PASSED = 500
"""Tasks that one worker may do before the core hears of them. It takes the supervisor a microsecond
for each, in which it does nothing else."""


class Queueing(Sizing):
    """Tasks that wait, and how they get a worker."""

    def _on_submitted(self, event: ev.TaskSubmitted) -> None:
        spec = event.task
        if spec.id in self.book.tasks:
            raise InvalidTransition(f"task {spec.id} was submitted before")
        self._add(spec, self._now)
        limit = self.settings.max_queue
        if self.ending.phase is not OPEN:
            self._fail(spec.id, Failure(FailureKind.POOL_CLOSED))
        elif limit is not None and len(self.book.queue) >= limit and not self.roster.idle:
            self._fail(spec.id, Failure(FailureKind.POOL_SATURATED, limit=limit))
        else:
            self._enqueue(spec.id)

    def _on_taken(self, event: ev.TaskTaken) -> None:
        worker = self.roster[event.worker]
        if event.task.id in self.book.tasks or worker.state is not IDLE:
            raise InvalidTransition(f"worker {event.worker} was not on loan for {event.task}")
        self._engage(worker, self._add(event.task, event.at), ev.TaskTaken, event.at)

    def _add(self, spec: ev.TaskSpec, at: float) -> Task:
        if self.settings.is_observed:
            self._tell(notices.TaskQueued(at, spec.id, spec.name))
        return self.book.add(spec, at)

    def on_loan(self, most: int) -> dict[int, int]:
        """Which workers may be lent to callers, the best first: see :mod:`warmpool.lease`.

        They are idle and stay so until the next event, so nothing waits in the queue meanwhile.

        Returns:
            How many tasks each may do before the core hears of them; see :mod:`warmpool.turns`.
        """
        if self.ending.phase is not OPEN:
            return {}
        lent = islice(reversed(self.roster.idle), most)
        if self.settings.is_observed or self.settings.forwards_logs:
            # Who observes is told of everything as it happens; and with the answers come records.
            return dict.fromkeys(lent, 0)
        limit = self.settings.max_tasks_per_child
        if limit is None:
            return dict.fromkeys(lent, MOST_PASSED)
        # Not the last one: something has to be done after that.
        workers = self.roster.workers
        return {id: min(MOST_PASSED, limit - 1 - workers[id].tasks_done) for id in lent}

    def _enqueue(self, id: int, *, first: bool = False) -> None:
        task = self.book.tasks[id]
        if self.roster.broken_at is not None:
            self._fail(id, Failure(FailureKind.POOL_BROKEN, cause=self.roster.last_failure))
        elif self.roster.idle:
            self._dispatch(task)  # A worker is idle, so nobody waits: see validate().
        else:
            self.book.enqueue(task, self._now, first=first)

    def _assign(self) -> None:
        """Give tasks that wait to workers that have nothing to do."""
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
        self._begin_run(worker, task, at)

    def _begin_run(self, worker: Worker, task: Task, at: float) -> None:
        task.worker, worker.task = worker.id, task.spec.id
        task.runs += 1
        task.started_at = at
        task.was_spared = False
        waited, waits = at - task.waits_since, self.ledger.waits
        waits.count += 1
        waits.seconds += waited
        if self.settings.is_observed:
            spec, pid = task.spec, worker.pid
            self._tell(
                notices.TaskStarted(at, spec.id, spec.name, worker.id, pid, waited, task.runs)
            )
        if task.spec.timeout is not None:
            self.roster.set_deadline(worker, at + task.spec.timeout)
        if task.spec.soft_timeout is not None:
            worker.soft_at = at + task.spec.soft_timeout
            self._note(worker.soft_at, Owner.SOFT, worker.id)

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
        self._forget(event.task, "cancelled")
        if worker.task == event.task:
            worker.task = worker.soft_at = worker.deadline = None
            self._go_on(worker, ev.TaskCancelled)
        else:
            self._not_laid_out(worker, event.task)

    def _not_laid_out(self, worker: Worker, task: int) -> None:
        raise NotImplementedError

    def _go_on(self, worker: Worker, cause: Input) -> None:
        """A busy worker has its task no more."""
        self.roster.move(worker, cause, self._now)
        self._after_task(worker)

    def _after_task(self, worker: Worker) -> None:
        limit = self.settings.max_tasks_per_child
        if self.ending.phase is CLOSING or (limit is not None and worker.tasks_done >= limit):
            reason = ExitReason.CLOSED if self.ending.phase is CLOSING else ExitReason.RECYCLED
            self._stop(worker, reason)
        else:
            if self.roster.due_idle:
                self._retire_due()
            if self.book.queue:
                self._assign()
            if self._is_elastic:
                self._has_become_idle()
        if self.ending.phase is not OPEN:
            self._wind_down()

    def _fail_or_rerun(self, id: int, failure: Failure) -> None:
        task = self.book.tasks[id]
        if self.phase is CLOSING and not failure.started:
            self._fail(id, Failure(FailureKind.POOL_CLOSED))
        elif self.phase is not CLOSING and task.may_rerun(failure):
            task.was_laid_out = False
            task.is_withdrawn = False  # Whoever cancelled it was told that it had begun.
            self._enqueue(id, first=not failure.started)
        else:
            self._fail(id, failure)
