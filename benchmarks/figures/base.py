"""What a figure is."""

import enum
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

from benchmarks import guard
from benchmarks.subjects.base import Ability, Opening, Session, Subject

# A pool that takes longer to close is left as it is.
CLOSING = 2.0


class Unit(enum.Enum):
    """How a sample is shown: seconds, unless said otherwise."""

    MICROSECONDS = "µs"
    MILLISECONDS = "ms"
    PER_SECOND = "/s"
    MEGABYTES_PER_SECOND = "MB/s"  # of seconds for a megabyte
    PERCENT = "% of a core"  # of a share
    MEGABYTES = "MB"  # of bytes
    TIMES = "times"  # of a ratio

    def show(self, sample: float) -> str:
        match self:
            case Unit.MICROSECONDS:
                return f"{sample * 1e6:,.1f}"
            case Unit.MILLISECONDS:
                return f"{sample * 1e3:,.2f}"
            case Unit.PERCENT:
                return f"{sample * 100:.3f}"
            case Unit.MEGABYTES:
                return f"{sample / 1e6:,.2f}"
            case Unit.TIMES:
                return f"{sample:,.2f}"
            case Unit.PER_SECOND | Unit.MEGABYTES_PER_SECOND:
                return f"{1 / sample:,.0f}"


@dataclass(frozen=True)
class Size:
    """How often: `rounds` in which each subject has one block of `samples`."""

    rounds: int
    samples: int
    # What the figure has many of: tasks, workers, megabytes, seconds.  Stands in its title.
    amount: float = 0
    # For all blocks, about: who has used up an equal share of it sits the other rounds out.
    seconds: float = 30.0
    # For an answer where a figure waits for one, else for a block.  Not there by then means: never.
    limit: float = 30.0
    # Where a sample may be shorter than the figure's amount, or longer than an instant.
    sample: float = 5.0
    # Whether it is for all subjects, or only for warmpool and the references.
    peers: bool = True


@dataclass(frozen=True)
class Conditions:
    """What a figure may need to know to open its subject."""

    start_method: str
    core: int | None  # all processes on this one; None leaves them free
    amount: float = 0
    sample: float = 5.0
    limit: float = 30.0

    @property
    def count(self) -> int:
        return int(self.amount)


# Takes a block of so many samples; fewer is better in every figure.
Block = Callable[[int], list[float]]
Prepare = Callable[[Subject, Conditions], AbstractContextManager[Block]]


@dataclass(frozen=True)
class Figure:
    name: str
    title: str  # {amount} is the size's
    needs: Ability
    prepare: Prepare  # a context manager around the whole of a subject's measurement
    unit: Unit
    full: Size
    quick: Size
    pinned: bool = False
    start_method: str | None = None  # None: the one of the run


@contextmanager
def opened(subject: Subject, opening: Opening) -> Iterator[Session]:
    """A session that is closed at the end, not yet ready."""
    session = subject.open(opening)
    try:
        yield session
    finally:
        # How long this takes, or whether it ends, is no part of any figure. What is left of a pool
        # that does not close is ended after the figure.
        with suppress(guard.StepTimeoutError), guard.step(CLOSING):
            session.close()


def fresh(sample: Callable[[Subject, Conditions], float], *, rehearsed: bool = False) -> Prepare:
    """For samples that need a subject of their own each.

    The first one of those that are rehearsed is not recorded: it alone pays for what a whole
    program pays for once, above all the start of the standard library's fork server.
    """

    @contextmanager
    def prepare(subject: Subject, conditions: Conditions) -> Iterator[Block]:
        if rehearsed:
            sample(subject, conditions)
        yield lambda samples: [sample(subject, conditions) for _ in range(samples)]

    return prepare
