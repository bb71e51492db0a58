"""Bugs that an exploration has to find, each a small change of one function of the core."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

from tests.exploration.case import GRACE, LIMIT, Case, a_task, some_settings
from warmpool import events as ev
from warmpool.core import Core
from warmpool.ending import Ending, Step
from warmpool.events import FailureKind
from warmpool.lifecycle import BUSY, IDLE, INITIALIZING, Worker
from warmpool.oversight import Oversight
from warmpool.queueing import Queueing
from warmpool.roster import Roster
from warmpool.staffing import Staffing
from warmpool.state import PoolState
from warmpool.tasks import Task, TaskBook

_ONE = Case(some_settings(1), faults=1)
_LIMITED = Case(some_settings(1), (a_task(1, timeout=LIMIT),), faults=1)
_ENDING = Case(some_settings(1), waiters=True, shutdowns=True, close_timeouts=(None, 0.0))


@dataclass(frozen=True)
class Mutant:
    """A bug."""

    what: str
    owner: type
    name: str
    change: Callable[[Callable[..., Any]], Callable[..., Any]]
    """Makes the mutated function of the original."""
    found_by: str
    """The beginning of the property that it breaks."""
    case: Case = _ONE

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Have the bug for a while. Cores that are made before do not have it."""
        original = getattr(self.owner, self.name)
        with mock.patch.object(self.owner, self.name, self.change(original)):
            yield


MUTANTS: dict[str, Mutant] = {}


def mutant(
    owner: type, name: str, found_by: str, case: Case = _ONE
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(change: Callable[..., Any]) -> Callable[..., Any]:
        title = change.__name__
        MUTANTS[title] = Mutant(title.replace("_", " "), owner, name, change, found_by, case)
        return change

    return register


# ---------------------------------------------------------------------------- deaths


@mutant(Staffing, "_on_exited", "it knows not who is there")
def an_exit_while_initializing_is_dropped(original):
    def on_exited(self, event):
        if self.roster[event.worker].state is not INITIALIZING:
            original(self, event)

    return on_exited


@mutant(Roster, "bury", "it knows not who is there", Case(some_settings(2)))
def a_task_is_handed_to_a_dead_idle_worker(original):
    def bury(self, worker):
        original(self, worker)
        if worker.ready_at is not None:
            # Still among those who can be given a task.
            self.workers[worker.id] = worker
            worker.state = IDLE
            self.idle[worker.id] = None

    return bury


@mutant(Roster, "kill", "it knows not who is there", _LIMITED)
def who_is_killed_is_replaced_before_it_is_dead(original):
    def kill(self, worker, *arguments):
        original(self, worker, *arguments)
        del self.workers[worker.id]
        self.unready.discard(worker.id)
        self.slots[worker.slot].worker = None

    return kill


@mutant(Roster, "place", "refilled without a delay")
def a_slot_is_refilled_without_a_delay(original):
    return lambda self, slot, now: self.start(slot, now)


@mutant(Roster, "__init__", "I11")
def a_pool_has_one_worker_too_many(original):
    return lambda self, size, *rest: original(self, size + 1, *rest)


# ---------------------------------------------------------------------------- answers


@mutant(Staffing, "_on_task_done", "a second answer")
def a_task_is_answered_twice(original):
    def on_task_done(self, event):
        original(self, event)
        self._out += [c for c in self._out if isinstance(c, ev.SettleTask)]

    return on_task_done


@mutant(Staffing, "_on_task_done", "it is done and never ran", _LIMITED)
def a_late_message_is_not_checked(original):
    def on_task_done(self, event):
        if event.task not in self.book.tasks or self.roster[event.worker].task == event.task:
            return original(self, event)
        self._forget(event.task, event.outcome.value)
        self._out.append(ev.SettleTask(event.task, event.outcome, event.payload))
        return None

    return on_task_done


@mutant(
    Task,
    "may_rerun",
    "it fails though it has runs left",
    Case(some_settings(1), (a_task(1, retries=1),)),
)
def a_retry_is_lost(original):
    def may_rerun(self, failure):
        self.retries -= failure.started
        return original(self, failure)

    return may_rerun


@mutant(Worker, "may_have_started", "what may have started runs again unasked")
def what_has_started_runs_again(original):
    return lambda self, last_started: False


@mutant(Task, "may_rerun", "it runs again and again", Case(some_settings(1), faults=4))
def a_task_that_kills_every_worker_runs_again_and_again(original):
    return lambda self, failure: not failure.started


@mutant(
    Core,
    "_failure",
    "what may have started runs again unasked",
    Case(some_settings(1, heartbeat_interval=1.0, heartbeat_timeout=GRACE), silence=True),
)
def a_silent_worker_is_thought_not_to_have_started(original):
    def failure(self, kind, worker, **facts):
        if kind is FailureKind.UNRESPONSIVE:
            facts["started"] = False
        return original(self, kind, worker, **facts)

    return failure


@mutant(PoolState, "_fail", "a broken pool holds no task", Case(some_settings(1), faults=2))
def a_broken_pool_keeps_tasks_waiting(original):
    def fail(self, id, failure):
        if failure.kind is not FailureKind.POOL_BROKEN or id not in self.book.queue:
            original(self, id, failure)

    return fail


@mutant(
    TaskBook,
    "take_next",
    "a task that runs still waits",
    Case(some_settings(1), (a_task(1, queue_timeout=LIMIT),)),
)
def a_task_that_runs_still_waits(original):
    def take_next(self):
        task = self.tasks[next(iter(self.queue))]
        deadline = task.queue_deadline
        original(self)
        task.queue_deadline = deadline
        return task

    return take_next


@mutant(Queueing, "_on_cancelled", "it holds a task", Case(some_settings(1), cancels=True))
def what_was_cancelled_at_dispatch_keeps_its_worker(original):
    def on_cancelled(self, event):
        task = self.book.tasks.get(event.task)
        if task is None or task.worker is None:
            original(self, event)

    return on_cancelled


# ---------------------------------------------------------------------------- waiting


@mutant(Core, "_on_close", "assert not self.waiters", _ENDING)
def a_waiter_is_forgotten_on_close(original):
    def on_close(self, event):
        with mock.patch.object(self, "_answer_warm"):
            original(self, event)

    return on_close


@mutant(Core, "_on_shutdown", "it knows not who waits", _ENDING)
def a_waiter_is_dropped_on_shutdown(original):
    def on_shutdown(self, event):
        self.waiters.clear()
        original(self, event)

    return on_shutdown


@mutant(Roster, "delay_passed", "the pool is busy for ever", Case(some_settings(1), faults=2))
def a_broken_pool_never_probes_again(original):
    def delay_passed(self, slot, now):
        if self.broken_at is None:
            original(self, slot, now)
        else:
            self._postpone(slot, now)

    return delay_passed


@mutant(Roster, "set_deadline", "a deadline is set and will never come", _LIMITED)
def a_time_limit_is_not_noted(original):
    def set_deadline(self, worker, at):
        if worker.task is None:
            original(self, worker, at)
        else:
            worker.deadline = at

    return set_deadline


@mutant(Core, "_worker_deadline_passed", "somebody waits for an answer", _LIMITED)
def a_time_limit_that_has_passed_does_nothing(original):
    def passed(self, worker):
        if worker.state is not BUSY:
            original(self, worker)
        else:
            worker.deadline = None

    return passed


@mutant(
    PoolState,
    "_stop",
    "the pool says that it is well",
    Case(some_settings(1, max_tasks_per_child=1)),
)
def health_is_not_looked_at_when_the_last_warm_worker_leaves(original):
    def stop(self, worker, reason):
        self.roster.stop(worker, self._now, self.settings.grace, reason)

    return stop


# ---------------------------------------------------------------------------- the end


@mutant(Ending, "killed", "a deadline is set and will never come", _ENDING)
def a_worker_that_outlives_its_kill_is_waited_for_for_ever(original):
    return lambda self, now: None


@mutant(Ending, "close_by", "the end is put off", _ENDING)
def a_second_close_puts_the_end_off(original):
    def close_by(self, now, grace, timeout):
        if self.step is Step.KILL:
            self.at = None
        original(self, now, grace, timeout)

    return close_by


@mutant(PoolState, "_wind_down", "somebody waits for an answer, or the end", _ENDING)
def a_pool_does_not_end(original):
    def wind_down(self):
        if self.book.tasks or self.roster.workers:
            original(self)

    return wind_down


@mutant(
    Oversight,
    "_memory_deadline_passed",
    "asked again before the answer",
    Case(some_settings(1, memory_limit=100), memory=(200,)),
)
def memory_is_asked_for_before_the_last_answer_has_come(original):
    def memory_deadline_passed(self):
        self._memory_asked.clear()
        original(self)

    return memory_deadline_passed
