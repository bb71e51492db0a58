"""Tasks on their way to a worker, and back from where they were laid out for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from warmpool import events as ev
from warmpool.fleet import Fleet
from warmpool.settling import Settler


class Dispatcher:
    """Carries out what the core says about that. *Threads:* the supervisor's.

    Args:
        settler: Has the tasks, and their futures.
        fleet: Has the workers.
        follow_up: Takes an event that is to be handled next.
    """

    def __init__(
        self, settler: Settler, fleet: Fleet, follow_up: Callable[[ev.Event], None]
    ) -> None:
        self._settler = settler
        self._fleet = fleet
        self._follow_up = follow_up
        self.actions: dict[type[ev.Command], Callable[[Any], object]] = {
            ev.DispatchTask: self._dispatch,
            ev.LayOut: self._lay_out,
            ev.TakeBack: self._take_back,
        }

    def _dispatch(self, command: ev.DispatchTask) -> None:
        submission = self._settler.hand_over(command.task, self._fleet.pid(command.worker))
        if submission is not None:
            self._fleet.run(command.worker, command.task, submission.payload)
        else:
            # The caller cancelled it in this instant.
            self._follow_up(ev.TaskCancelled(command.task))

    def _lay_out(self, command: ev.LayOut) -> None:
        worker, pid = command.worker, self._fleet.pid(command.worker)
        for at, task in enumerate(command.tasks):
            submission = self._settler.hand_over(task, pid, lies=True)
            if submission is None:
                self._follow_up(ev.TaskCancelled(task))
            elif not self._fleet.lay_out(worker, task, submission.payload):
                self._settler.take_back((task,))
                self._follow_up(ev.TakenBack(worker, command.tasks[at:]))
                return

    def _take_back(self, command: ev.TakeBack) -> None:
        self._follow_up(ev.TakenBack(command.worker, self._fleet.empty_tray(command.worker)))
