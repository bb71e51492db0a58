"""A simulated flight recorder, both sides of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.world import World


class Recorder:
    """A worker's flight recorder, both sides."""

    def __init__(self, world: World, interval: float) -> None:
        self._machine = world.machine
        self._interval = interval
        self._born = world.machine.now
        self._frozen_at: float | None = None
        self._frozen_for = 0.0
        self._is_closed = False
        self._started = 0
        self._text = ""
        self._has_stacks = False
        self.interrupted = 0
        self.interruption: tuple[float | None, float | None] = (None, None)
        self._raised = 0

    # ------------------------------------------------------------------ the worker's side

    def note_started(self, task: int) -> None:
        self._started = task

    def note_raised(self, task: int) -> None:
        self._raised = task

    def note_stacks_to_be_had(self) -> None:
        self._has_stacks = True

    def write(self, text: str) -> None:
        self._text += text

    def freeze(self) -> None:
        self._frozen_at = self._machine.now

    def thaw(self) -> None:
        if self._frozen_at is not None:
            self._frozen_for += self._machine.now - self._frozen_at
            self._frozen_at = None

    # ------------------------------------------------------------------ the host's

    def _read(self) -> None:
        if self._is_closed:
            self._machine.fail("a flight recorder is read after its end")

    @property
    def last_started(self) -> int:
        self._read()
        return self._started

    @property
    def beats(self) -> int:
        self._read()
        until = self._machine.now if self._frozen_at is None else self._frozen_at
        return int((until - self._born - self._frozen_for) / self._interval)

    @property
    def stacks_are_to_be_had(self) -> bool:
        self._read()
        return self._has_stacks

    @property
    def raised(self) -> int:
        self._read()
        return self._raised

    def interrupt(self, task: int, limit: float | None, left: float | None) -> None:
        self._read()
        self.interruption, self.interrupted = (limit, left), task

    def stacks(self) -> str:
        self._read()
        return self._text

    def close(self) -> None:
        self._is_closed = True
