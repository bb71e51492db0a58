"""How something went wrong, told event by event."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.exploration.case import Case
from tests.exploration.codes import Snapshot
from tests.exploration.orders import mixed, orders
from tests.exploration.snapshot import Camera
from tests.exploration.violation import Step, Violation
from tests.exploration.words import command_in_words, move_in_words, state_in_words
from tests.exploration.world import World
from warmpool import events as ev

_WAYS = {
    "alone": "From here on nobody does anything but die when killed:",
    "healed": "From here on nothing fails any more, and all do what they are asked:",
    "closed": "From here on somebody closes the pool, and no worker listens or dies:",
}


class Storyteller:
    """Makes a world go the way of a violation once more, and tells of it.

    Args:
        case: In which it was found. Whatever was patched then must be patched now.
    """

    def __init__(self, case: Case) -> None:
        self._camera = Camera(case)
        self._world = World(case)
        self._is_elastic = case.settings.min_idle is not None
        self._world.hear = self._hear
        self._told: list[str] = []
        self._names: dict[int, int] = {}
        self._named = 0
        self._tasks = {spec.id: spec.id for spec in case.tasks}
        self._clock = 0.0

    def tell(self, violation: Violation) -> str:
        """The whole story."""
        return "\n".join(self._lines(violation))

    def _lines(self, violation: Violation) -> Iterator[str]:
        with contextlib.suppress(AssertionError):
            self._world.open()
        yield from self._paragraph("a pool is opened")
        snapshot, number = self._after(), 0
        for part, steps in ((None, violation.steps), (violation.way, violation.then)):
            if part is not None and steps:
                yield _WAYS[part]
            for step in steps:
                number += 1
                if snapshot is None:
                    break  # Nobody can go on from there.
                try:
                    self._do(snapshot, step)
                except Exception:
                    snapshot = None
                yield from self._paragraph(f"{number}. {self._happened(step)}")
                if snapshot is not None:
                    snapshot = self._after()
        if violation.way is not None and not violation.then:
            yield _WAYS[violation.way]
        yield f"WRONG: {violation.what}"
        yield f"       [{violation.where}]" if violation.where else ""

    # ------------------------------------------------------------------ going on

    def _do(self, snapshot: Snapshot, step: Step) -> None:
        order = orders(snapshot, self._is_elastic)[0][step.order]
        # Workers keep their names though their places are in another order.
        self._names = {
            index + 1: self._names[source + 1]
            for index, source in enumerate(order)
            if source + 1 in self._names
        }
        self._camera.make(mixed(snapshot, order), self._world)
        self._world.picks = step.picks
        getattr(self._world, step.move[0])(*step.move[1:])

    def _after(self) -> Snapshot | None:
        try:
            return self._photograph()
        except Exception:
            return None

    def _photograph(self) -> Snapshot:
        """Take the snapshot; workers and tasks keep their names though they get other numbers."""
        snapshot, workers, tasks = self._camera.take(self._world)
        if tasks:
            self._tasks = {number: self._tasks[task] for task, number in tasks.items()}
        self._names = {
            index + 1: self._number(worker)
            for index, worker in enumerate(workers)
            if worker is not None
        }
        return snapshot

    def _number(self, worker: int) -> int:
        if worker not in self._names:
            self._named += 1
            self._names[worker] = self._named
        return self._names[worker]

    def _name(self, worker: int) -> str:
        return f"worker {self._number(worker)}"

    def _task(self, task: int) -> str:
        return f"task {self._tasks.get(task, task)}"

    # ------------------------------------------------------------------ telling

    def _hear(self, event: ev.Event, commands: list[ev.Command]) -> None:
        if isinstance(event, ev.TakenBack):
            found = ", ".join(map(self._task, event.tasks)) or "nothing"
            self._told.append(f"found in the tray of {self._name(event.worker)}: {found}")
        self._said(commands)

    def _said(self, commands: list[ev.Command]) -> list[ev.Command]:
        words = (command_in_words(command, self._name, self._task) for command in commands)
        self._told += filter(None, words)
        return commands

    def _happened(self, step: Step) -> str:
        passed, self._clock = self._world.now, self._clock + self._world.now
        return move_in_words(step.move, self._world, self._name, self._task, passed)

    def _paragraph(self, headline: str) -> Iterator[str]:
        yield f"{headline}   [at {self._clock:g} s]"
        if self._told:
            yield f"      -> {'; '.join(self._told)}"
        yield f"      {state_in_words(self._world, self._name, self._task)}"
        self._told.clear()
