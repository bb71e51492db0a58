"""Rules of the core: small tasks are laid out for a busy worker, which need not wait for the next.

Between two tasks that take microseconds a worker would wait for the supervisor most of the time,
and each of the two would wake the other up for each task. So some of the tasks that wait are put
where the worker itself takes the next one, its tray; they are answered as any other, and the
supervisor reads many answers at once. A tray is no second queue:

* What is in it can be taken back at any time, one task after the other: the kernel gives each
  either to the worker or to the supervisor.
* Nothing stays in it for long: what is not done soon is taken back, and waits at the head of the
  queue again; and so it is as soon as a worker has nothing to do.
* Tasks are laid out only for a worker that was quick with its last one, a few at first.
* A worker that leaves, for whatever reason, leaves its tray behind: what it has not taken never
  started, and runs elsewhere.
"""

from __future__ import annotations

import dataclasses
from itertools import islice

from warmpool import events as ev
from warmpool.deadlines import Owner
from warmpool.ending import CLOSING
from warmpool.events import Failure, FailureKind
from warmpool.lifecycle import BUSY, KILLING, Input, Worker
from warmpool.queueing import Queueing
from warmpool.tasks import Task

PATIENCE = 0.01
"""Seconds in which a worker is to have done what was laid out for it. A task that takes as long is
not quick."""
MOST = 128
"""Tasks in a tray at most. A worker does as many in some milliseconds, the time after which a busy
thread of the host's lets go of the GIL; and its socket takes their answers while nobody reads."""


class Trays(Queueing):
    """What is laid out for whom."""

    def _lay_out(self, worker: Worker) -> None:
        """Lay out tasks for a worker that has just begun another one."""
        queue, roster, tasks = self.book.queue, self.roster, self.book.tasks
        if not self.settings.lays_out or self.phase is CLOSING or worker.state is not BUSY:
            return
        if len(worker.tray) > worker.reach // 2 or worker.id in roster.due:
            return
        assert worker.task is not None
        if tasks[worker.task].spec.size > ev.SMALL:
            return  # That went another way, and what is laid out might overtake it.
        worker.reach = min(MOST, 2 * worker.reach)
        # Half of a worker's share: the others are to have work until this one asks again.
        room = min(worker.reach, len(queue) // (2 * len(roster.slots))) - len(worker.tray)
        if room <= 0:
            return
        laid = []
        for id in islice(queue, room):
            spec = tasks[id].spec
            if spec.size > ev.SMALL or spec.queue_timeout is not None:
                break
            laid.append(id)
        if not laid:
            return
        for id in laid:
            del queue[id]
            tasks[id].worker = worker.id
            tasks[id].was_laid_out = True
        worker.tray.extend(laid)
        if len(roster.slots) > 1:  # Else nobody could do it any sooner.
            worker.tray_at = self._now + PATIENCE
            self._note(worker.tray_at, Owner.TRAY, worker.id)
        roster.laid.add(worker)
        self._out.append(ev.LayOut(worker.id, tuple(laid)))

    def _was_quick(self, worker: Worker, run: float) -> None:
        """Let a worker have something in its tray, or nothing, by what its last task took."""
        if run > PATIENCE:
            worker.reach = 0
        elif not worker.reach:
            worker.reach = 1

    def _go_on(self, worker: Worker, cause: Input) -> None:
        if not worker.tray:
            super()._go_on(worker, cause)
            return
        self._begin_next(worker)
        if self.book.queue:
            self._lay_out(worker)

    def _begin_next(self, worker: Worker) -> None:
        """It has taken the next one from its tray."""
        task = self.book.tasks[worker.tray.popleft()]
        if not worker.tray:
            self._clear_tray(worker)
        self._begin_run(worker, task, self._now)
        self._end_if_requested(task)

    def _end_if_requested(self, task: Task) -> None:
        event, task.end_requested = task.end_requested, None
        if event is not None:
            self._on_kill_requested(event)

    def _after_task(self, worker: Worker) -> None:
        super()._after_task(worker)
        if worker.task is None:
            self._share()
        elif self.book.queue:
            self._lay_out(worker)

    def _not_laid_out(self, worker: Worker, task: int) -> None:
        worker.tray.remove(task)
        if not worker.tray:
            self._clear_tray(worker)
        self._wind_down()

    def _on_kill_requested(self, event: ev.TaskKillRequested) -> None:
        raise NotImplementedError

    # ------------------------------------------------------------------ taking back

    def _on_withdrawn(self, event: ev.TaskWithdrawn) -> None:
        task = self.book.tasks.get(event.task)
        if task is None:
            return
        if task.worker is not None and task.was_laid_out:
            task.is_withdrawn = True
            self._take_back(self.roster.workers[task.worker])
        elif task.worker is None and not task.runs:
            # It was taken back as its caller asked.
            self._drop(event.task)
            self._wind_down()

    def _withdraw_all(self, worker: Worker) -> None:
        for id in worker.tray:
            self.book.tasks[id].is_withdrawn = True
        self._take_back(worker)

    def _take_back(self, worker: Worker) -> None:
        """Have back what is in a tray, and was not taken from it."""
        # Also the task that it is believed to have: it may not have come to that.
        if self.settings.lays_out and worker.task is not None:
            self._clear_tray(worker)
            self.roster.recalled.add(worker.id)
            self._out.append(ev.TakeBack(worker.id))

    def _on_taken_back(self, event: ev.TakenBack) -> None:
        worker = self.roster.workers.get(event.worker)
        if worker is None:
            return  # Its tasks were answered at its end.
        if worker.id not in self.roster.recalled:
            worker.reach = 0  # They did not fit, or the worker has no tray any more.
        self.roster.recalled.discard(worker.id)
        self._put_all_back(worker, event.tasks)
        # What is left in it the worker has taken: answers are on their way, or it is dying.
        if not worker.tray:
            self._clear_tray(worker)
        is_judged = worker.state is KILLING and not worker.awaits_stack
        if worker.task in event.tasks:
            # It has answered the one before that. It may have one behind it: as the tray was being
            # emptied, one after the other, it took one in the middle.
            if worker.state is BUSY:
                task = self._unmake_run(worker)
                if worker.tray:
                    self._begin_next(worker)
                else:
                    self.roster.move(worker, ev.TakenBack, self._now)
                self._put_back(task)
            else:
                self._has_not_begun(worker)
        elif is_judged and worker.task is not None:
            assert worker.suspicion is not None
            failure = worker.suspicion
            self._fail_or_rerun(self._end_run(worker, began=failure.started), failure)
        self._assign()
        self._share()
        if worker.state is BUSY and worker.task is not None and not worker.tray:
            # It has not gone on with another one, behind the task that it has.
            self._end_if_requested(self.book.tasks[worker.task])
        self._wind_down()

    def _has_not_begun(self, worker: Worker) -> None:
        """It is leaving, and has left the task that it was believed to have in its tray."""
        assert worker.suspicion is not None
        assert worker.task is not None
        task = self.book.tasks[worker.task]
        self._lay_there(task)
        worker.suspicion = dataclasses.replace(worker.suspicion, started=False)
        if worker.state is KILLING or task.free_runs > 0 or self.phase is CLOSING:
            self._fail_or_rerun(self._end_run(worker, began=False), worker.suspicion)
        # Else it is told what its worker dies of, which an end of file does not say yet.

    def _put_all_back(self, worker: Worker, tasks: tuple[int, ...]) -> None:
        for id in reversed(tasks):
            if id in worker.tray:
                worker.tray.remove(id)
                self._put_back(self.book.tasks[id])

    def _put_back_what_it_left(self, worker: Worker, tasks: tuple[int, ...]) -> None:
        self._put_all_back(worker, tasks)
        if worker.task in tasks:
            self._lay_there(self.book.tasks[worker.task])

    def _lay_there(self, task: Task) -> None:
        """It was found in the tray. What was sent to an idle worker has had its attempt."""
        if task.was_laid_out:
            task.was_laid_out = False
            task.runs -= 1

    def _unmake_run(self, worker: Worker) -> Task:
        """Its run has not begun."""
        assert worker.task is not None
        task = self.book.tasks[worker.task]
        worker.task = worker.soft_at = worker.deadline = None
        self._lay_there(task)
        waits = self.ledger.waits
        waits.count -= 1
        waits.seconds -= task.started_at - task.waits_since
        return task

    def _end_run(self, worker: Worker, *, began: bool) -> int:
        raise NotImplementedError

    def _put_back(self, task: Task) -> None:
        if self.phase is CLOSING:
            self._fail(task.spec.id, Failure(FailureKind.POOL_CLOSED))
        elif self.roster.broken_at is not None:
            cause = self.roster.last_failure
            self._fail(task.spec.id, Failure(FailureKind.POOL_BROKEN, cause=cause))
        else:
            task.was_laid_out = False
            is_withdrawn, task.is_withdrawn = task.is_withdrawn, False
            if is_withdrawn and not task.runs:
                self._drop(task.spec.id)
                return
            self.book.enqueue(task, task.waits_since, first=True)
            self._end_if_requested(task)

    def _clear_tray(self, worker: Worker) -> None:
        worker.tray_at = None
        self.roster.laid.pop(worker.id, None)

    def _share(self) -> None:
        """One has nothing to do while another has more than it can do at once: take that back."""
        roster = self.roster
        if roster.laid and roster.idle:
            self._take_back(roster.laid.fullest())

    def _tray_deadline_passed(self, worker: Worker) -> None:
        if worker.task is not None:
            run = self._now - self.book.tasks[worker.task].started_at
            worker.reach = 0 if run > PATIENCE else worker.reach // 4
        self._take_back(worker)
