"""Bugs of trays, and of reloads, that an exploration has to find. Also names all others."""

from __future__ import annotations

from unittest import mock

from tests.exploration.mutants import MUTANTS as MUTANTS
from tests.exploration.mutants import mutant
from tests.exploration.worlds import SMALL
from warmpool.core import Core
from warmpool.events import FailureKind
from warmpool.lifecycle import WARM
from warmpool.staffing import Staffing
from warmpool.trays import Trays


@mutant(
    Trays,
    "_share",
    "a task waits behind another one while a worker is idle",
    SMALL["two trays"],
)
def who_has_nothing_to_do_gets_nothing_from_others(original):
    return lambda self: None


@mutant(
    Trays,
    "_lay_out",
    "a task may wait behind another one for ever",
    SMALL["two trays"],
)
def what_is_laid_out_is_not_looked_after(original):
    def lay_out(self, worker):
        original(self, worker)
        worker.tray_at = None

    return lay_out


@mutant(Trays, "_put_all_back", "it is said to have started, and had not", SMALL["a tray"])
def what_a_worker_leaves_in_its_tray_is_not_looked_at(original):
    def put_all_back(self, worker, tasks):
        if worker.state in WARM:
            original(self, worker, tasks)

    return put_all_back


@mutant(
    Staffing,
    "_bury",
    "what may have started runs again unasked",
    SMALL["a tray"],
)
def what_was_taken_from_a_tray_is_thought_not_to_have_started(original):
    return lambda self, worker, last_started=None: original(self, worker, worker.noted)


@mutant(Core, "_spare", "another task dies of it", SMALL["a tray, limits"])
def a_limit_does_not_ask_whether_its_task_is_answered(original):
    return lambda self, worker: False


@mutant(Trays, "_begin_run", "another task dies of it", SMALL["a tray, limits"])
def a_task_is_asked_about_but_once(original):
    def begin_run(self, worker, task, at):
        was_spared = task.was_spared
        original(self, worker, task, at)
        task.was_spared = was_spared

    return begin_run


@mutant(Staffing, "_on_kill_requested", "another task dies of it", SMALL["a tray, kills"])
def a_kill_does_not_ask_who_has_the_task(original):
    def on_kill_requested(self, event):
        task = self.book.tasks[event.task]
        worker = self.roster.workers.get(task.worker)
        if worker is None or worker.task != event.task or not worker.tray:
            return original(self, event)
        task.retries = task.free_runs = 0
        return self._kill(worker, self._failure(FailureKind.KILL_REQUESTED, worker, started=True))

    return on_kill_requested


@mutant(
    Trays,
    "_put_back",
    "what nobody has begun with cannot be cancelled",
    SMALL["a tray, cancelled"],
)
def what_is_taken_back_since_its_caller_cancels_it_waits_again(original):
    def put_back(self, task):
        task.is_withdrawn = False
        original(self, task)

    return put_back


# ---------------------------------------------------------------------------- reloading


@mutant(Staffing, "_on_ready", "one of before a reload stays", SMALL["reload"])
def who_was_warming_up_when_the_pool_was_reloaded_stays(original):
    def on_ready(self, event):
        with mock.patch.object(type(self), "_retire_if_outdated"):
            original(self, event)

    return on_ready
