"""What a figure is."""

import enum
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from benchmarks.subjects.base import Ability, Session, Subject


class Unit(enum.Enum):
    """How seconds are shown."""

    MICROSECONDS = "µs"
    MILLISECONDS = "ms"
    PER_SECOND = "/s"
    PERCENT = "% of a core"

    def show(self, seconds: float) -> str:
        match self:
            case Unit.MICROSECONDS:
                return f"{seconds * 1e6:,.1f}"
            case Unit.MILLISECONDS:
                return f"{seconds * 1e3:,.2f}"
            case Unit.PERCENT:
                return f"{seconds * 100:.3f}"
            case Unit.PER_SECOND:
                return f"{1 / seconds:,.0f}"


@dataclass(frozen=True)
class Size:
    """How often: `rounds` in which each subject has one block of `samples`."""

    rounds: int
    samples: int


@dataclass(frozen=True)
class Conditions:
    """What a figure may need to know to open its subject."""

    start_method: str
    core: int | None  # all processes on this one; None leaves them free


# Takes a block of so many samples, in seconds.
Block = Callable[[int], list[float]]
Prepare = Callable[[Subject, Conditions], AbstractContextManager[Block]]


@dataclass(frozen=True)
class Figure:
    name: str
    title: str
    needs: Ability
    prepare: Prepare  # a context manager around the whole of a subject's measurement
    unit: Unit
    full: Size
    quick: Size
    pinned: bool = False
    start_method: str | None = None  # None: the one of the run


@contextmanager
def opened(subject: Subject, conditions: Conditions, workers: int = 1) -> Iterator[Session]:
    """A session that is closed at the end, not yet ready."""
    session = subject.open(workers, conditions.start_method)
    try:
        yield session
    finally:
        session.close()


def fresh(sample: Callable[[Subject, Conditions], float]) -> Prepare:
    """For samples that need a subject of their own each.

    The first is not recorded: it alone pays for what a whole program pays for once, above all
    the start of the standard library's fork server.
    """

    @contextmanager
    def prepare(subject: Subject, conditions: Conditions) -> Iterator[Block]:
        sample(subject, conditions)
        yield lambda samples: [sample(subject, conditions) for _ in range(samples)]

    return prepare
