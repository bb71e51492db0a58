"""What must not be, and the way there."""

from __future__ import annotations

import linecache
import traceback
from dataclasses import dataclass

from tests.exploration.moves import Move


@dataclass(frozen=True, slots=True)
class Step:
    """One move, made in one of the orders of simultaneous deadlines."""

    move: Move
    order: int = 0
    picks: tuple[int, ...] = ()
    """What happened of all that may happen with it: see :class:`tests.exploration.given.Given`."""


@dataclass(frozen=True)
class Violation:
    """A property that does not hold."""

    what: str
    where: str
    """Where in the code that was noticed."""
    steps: tuple[Step, ...]
    """There is no shorter way to it."""
    then: tuple[Step, ...] = ()
    """How it went on, as one of the ways has it, if only that shows it."""
    way: str | None = None

    def __len__(self) -> int:
        return len(self.steps) + len(self.then)


def explain(error: BaseException) -> tuple[str, str]:
    """What is wrong, in the words of the assertion, and where that stands."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return str(error), ""
    frame = frames[-1]
    where = f"{frame.name}(), {frame.filename.rpartition('/')[2]}:{frame.lineno}"
    text = str(error)
    if not isinstance(error, AssertionError):
        return f"{type(error).__name__}: {text}", where
    return text or linecache.getline(frame.filename, frame.lineno or 0).strip(), where
