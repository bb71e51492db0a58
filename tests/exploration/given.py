"""What workers were given, and how far they may have come with it: also what is in their trays.

Who has what is laid out, a worker or its host, is for the kernel to say, and nobody knows before
somebody asks. So a worker's progress is decided here as late as that: when its answer is read, when
its tray is emptied (of which it may have taken any part, before or in between), at its end.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.exploration.case import Case
from tests.property.outside import Outside
from warmpool import events as ev
from warmpool.core import Core


class Given(Outside):
    """An outside that leaves open what nobody can know. ``running`` is what a worker took first."""

    case: Case
    core: Core
    specs: dict[int, ev.TaskSpec]
    behind: dict[int, list[int]]
    """What a worker has taken behind the first: so it has answered that, and all but the last."""
    direct: set[int]
    """Workers whose task did not fit into their tray, and went by the data channel."""
    picks: Sequence[int]
    """What happens of all that may happen, each time; beyond them always the first."""
    offered: list[int]
    """Among how many there was to pick, each time."""
    faults: int
    """How many of the picks were faults."""

    def begin(self, task: int) -> None:
        """A worker has taken it, and may have begun with it."""
        raise NotImplementedError

    def hand_over(self, task: int) -> bool:
        """A worker is to have it; False if its caller has cancelled it."""
        raise NotImplementedError

    def taken_back(self, task: int) -> None:
        """It was found in a tray, or did not fit into it."""
        raise NotImplementedError

    def let_nobody_have_anything(self) -> None:
        self.running, self.behind, self.trays = {}, {}, {}
        self.direct, self.follow_ups = set(), []
        self.picks, self.offered, self.faults = (), [], 0

    def choose(self, number: int) -> int:
        """One of so many things happens."""
        place = len(self.offered)
        self.offered.append(number)
        return self.picks[place] % number if place < len(self.picks) else 0

    def _does_not_fit(self) -> bool:
        if not self.case.is_full:
            return False
        fails = self.choose(2)
        self.faults += fails
        return bool(fails)

    # ------------------------------------------------------------------ looking

    def taken(self, worker: int) -> list[int]:
        """What it has taken and nobody has read the answer of, in its order."""
        first = [self.running[worker]] if worker in self.running else []
        return first + self.behind.get(worker, [])

    def given(self, worker: int) -> list[int]:
        """The same, and what lies in its tray."""
        return self.taken(worker) + self.trays.get(worker, [])

    def has(self, worker: int, task: int | None) -> bool:
        if not self.core.settings.lays_out:
            return super().has(worker, task)
        found = [event for event in self.follow_ups if isinstance(event, ev.TakenBack)]
        emptied = [one for event in found if event.worker == worker for one in event.tasks]
        return task is None or task in [*self.given(worker), *emptied]

    # ------------------------------------------------------------------ to a worker

    def give(self, worker: int, task: int) -> None:
        assert not self.behind.get(worker), "one task at a time"
        self.direct.discard(worker)
        if self.core.settings.lays_out and self.specs[task].size <= ev.SMALL:
            if not self._does_not_fit():
                self.trays[worker] = [task]
                return
            self.direct.add(worker)
        self.take(worker, task)

    def lay_out(self, command: ev.LayOut) -> None:
        worker = command.worker
        assert worker in self.alive, "a task is laid out for a worker that is not there"
        assert worker not in self.killed, "a task is laid out for a worker that was killed"
        assert worker not in self.stopped, "a task is laid out for a worker that is to leave"
        for at, task in enumerate(command.tasks):
            if not self.hand_over(task):
                self.follow_ups.append(ev.TaskCancelled(task))
            elif worker in self.direct or self._does_not_fit():
                # It must not overtake the other, either.
                self.taken_back(task)
                self.follow_ups.append(ev.TakenBack(worker, command.tasks[at:]))
                return
            else:
                self.trays.setdefault(worker, []).append(task)

    def take(self, worker: int, task: int) -> None:
        """It takes a task, and has answered the one before that."""
        if worker in self.running:
            self.behind.setdefault(worker, []).append(task)
        else:
            self.running[worker] = task
        self.begin(task)

    def take_first(self, worker: int) -> None:
        """It takes the first one from its tray."""
        frames = self.trays[worker]
        self.take(worker, frames.pop(0))
        if not frames:
            del self.trays[worker]

    # ------------------------------------------------------------------ and back

    def take_back(self, command: ev.TakeBack) -> None:
        worker = command.worker
        assert worker in self.alive, "a tray is emptied of one that is not there"
        self.follow_ups.append(ev.TakenBack(worker, self.empty(worker)))

    def empty(self, worker: int) -> tuple[int, ...]:
        """What is found in its tray."""
        frames = self.trays.pop(worker, [])
        # Any part: its host takes them out one by one, and it may be as quick as that.
        pick = self.choose(1 << len(frames)) if frames else 0
        found = []
        for number, task in enumerate(frames):
            if pick >> number & 1:
                self.take(worker, task)
            else:
                found.append(task)
                self.taken_back(task)
        return tuple(found)

    def answered(self, worker: int) -> int:
        """The task whose answer is the next to be read from it."""
        if worker not in self.running:
            self.take_first(worker)
        task = self.running.pop(worker)
        behind = self.behind.get(worker)
        if behind:
            self.running[worker] = behind.pop(0)
            if not behind:
                del self.behind[worker]
        return task

    def is_over(self, task: int, instead: int) -> None:
        """It has its answer, and is nobody's any more."""
        for worker, last in self.running.items():
            if last == task:
                self.running[worker] = instead
        for lists in (self.behind, self.trays):
            for worker, tasks in lists.items():
                if task in tasks:
                    lists[worker] = [instead if one == task else one for one in tasks]

    def forget(self, worker: int) -> None:
        super().forget(worker)
        self.behind.pop(worker, None)
        self.direct.discard(worker)
