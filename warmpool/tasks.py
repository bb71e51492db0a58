"""The books of the core: tasks that have no answer yet, and the queue of those that wait.

Answering takes a task out of the books, and only what is in them is answered: so each gets exactly
one answer (I10).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

from warmpool import events as ev
from warmpool.deadlines import Deadlines, Owner

FREE_RUNS = 3
"""How often a task that never started is handed on: a task that kills each worker before it can
note its start (an argument too large for memory) would else kill workers for ever."""


@dataclass(slots=True)
class Task:
    """A task that has not been answered."""

    spec: ev.TaskSpec
    retries: int
    """Runs that are left after one that failed."""
    free_runs: int = FREE_RUNS
    runs: int = 0
    worker: int | None = None
    # Invariant: None exactly while the task is queued.
    queue_deadline: float | None = None
    submitted_at: float = 0.0
    waits_since: float = 0.0
    started_at: float = 0.0
    kill_requested: bool = False
    """Its owner wants it killed, after a grace."""
    may_have_begun: bool = False
    """Whether one of its runs may have that are over."""
    was_laid_out: bool = False
    """Whether it came, or comes, to its worker by the tray."""
    was_spared: bool = False
    """Whether its limit has passed, and it was asked whether it has been answered."""
    is_withdrawn: bool = False
    """Its owner does not want it, unless it has begun."""
    end_requested: ev.TaskKillRequested | None = None
    """Its owner wants it killed, and it was in a tray: it may have started, or not."""

    def may_rerun(self, failure: ev.Failure) -> bool:
        """Whether it is run again after this failure; counts the run.

        A task that never started runs elsewhere by itself; one that may have started only if its
        owner asked for it (promise 5). So does one that ran into its limit, which has passed.
        """
        self.may_have_begun = self.may_have_begun or failure.started
        if failure.started or failure.kind is ev.FailureKind.TASK_TIMEOUT:
            self.retries -= 1
            return self.retries >= 0
        self.free_runs -= 1
        return self.free_runs >= 0


class TaskBook:
    """All unanswered tasks of a pool.

    Args:
        deadlines: Where the queue's deadlines are noted.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        self.tasks: dict[int, Task] = {}
        self.queue: OrderedDict[int, None] = OrderedDict()
        self.submitted = 0
        self.settled: Counter[str] = Counter()
        self.failed: Counter[ev.FailureKind] = Counter()
        self._deadlines = deadlines

    def add(self, spec: ev.TaskSpec, now: float) -> Task:
        """Enter a new task. It has to be queued or answered next."""
        self.submitted += 1
        task = self.tasks[spec.id] = Task(spec, spec.retries, submitted_at=now, waits_since=now)
        return task

    def enqueue(self, task: Task, now: float, *, first: bool) -> None:
        """Let the task wait for a worker, ahead of all others or behind them."""
        task.worker = None
        task.waits_since = now
        self.queue[task.spec.id] = None
        if first:
            self.queue.move_to_end(task.spec.id, last=False)
        if task.spec.queue_timeout is not None:
            task.queue_deadline = now + task.spec.queue_timeout
            self._deadlines.add(task.queue_deadline, Owner.TASK, task.spec.id)

    def take_next(self) -> Task:
        """Take the first waiting task off the queue; it has to be dispatched next."""
        id, _ = self.queue.popitem(last=False)
        task = self.tasks[id]
        task.queue_deadline = None
        return task

    def forget(self, id: int, outcome: str, failure: ev.FailureKind | None = None) -> Task:
        """Take an answered task out of the books, and give it."""
        task = self.tasks.pop(id)
        if failure is not None:
            self.failed[failure] += 1
        self.queue.pop(id, None)
        self.settled[outcome] += 1
        return task

    def count_passed(self, outcome: str) -> None:
        """Count a task that was submitted and answered past the supervisor."""
        self.submitted += 1
        self.settled[outcome] += 1

    def validate(self) -> None:
        """Assert what must always be true of the books."""
        waiting = {id for id, task in self.tasks.items() if task.worker is None}
        assert set(self.queue) == waiting
        assert sum(self.settled.values()) + len(self.tasks) == self.submitted  # I10
