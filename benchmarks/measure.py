"""Samples and what they say.  Fewer is better in every figure, and most are seconds."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


def timed(action: Callable[[], object], times: int) -> list[float]:
    """How long each of `times` calls took."""
    clock = time.perf_counter
    samples = []
    for _ in range(times):
        began = clock()
        action()
        samples.append(clock() - began)
    return samples


def in_turns(items: Sequence[T], turn: int) -> list[T]:
    """The same items, in another order each turn: nobody always runs after the same one.

    What the one before has left (memory, busy cores) is everybody's in equal parts: within as many
    turns as there are items, or twice as many if that is odd, each of them follows each other one
    equally often (E. J. Williams, 1949).
    """
    count = len(items)
    steps = ((step + 1) // 2 * (1 if step % 2 else -1) for step in range(count))
    order = [items[(turn + step) % count] for step in steps]
    return order[::-1] if turn // max(1, count) % 2 else order


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank, so that the answer is a sample and not a blend of two."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@dataclass(frozen=True)
class Summary:
    n: int
    median: float
    p90: float
    p99: float
    worst: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Summary":
        ordered = sorted(samples)
        return cls(
            n=len(ordered),
            median=statistics.median(ordered),
            p90=percentile(ordered, 0.90),
            p99=percentile(ordered, 0.99),
            worst=ordered[-1],
        )


@dataclass(frozen=True)
class Ratio:
    """One subject against another, judged round by round: drift between rounds cancels out."""

    median: float
    low: float  # a quarter of the rounds lie below
    high: float  # a quarter of the rounds lie above


class Reading:
    """One subject in one figure: its blocks, one per round, or why there are none."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.blocks: list[list[float]] = []
        self.error: str | None = None
        self.never: str | None = None  # it was cut off: after how long
        self.absent: str | None = None  # what it would take does not exist here

    @property
    def summary(self) -> Summary | None:
        samples = [sample for block in self.blocks for sample in block]
        return Summary.of(samples) if samples else None

    def block_medians(self) -> list[float]:
        return [statistics.median(block) for block in self.blocks]

    def against(self, other: "Reading") -> Ratio | None:
        """This subject's time over `other`'s, or None where that says nothing."""
        pairs = list(zip(self.block_medians(), other.block_medians(), strict=False))
        # Lateness may be zero or below, and then a ratio has no meaning.
        if not pairs or any(mine <= 0 or theirs <= 0 for mine, theirs in pairs):
            return None
        ratios = sorted(mine / theirs for mine, theirs in pairs)
        return Ratio(statistics.median(ratios), percentile(ratios, 0.25), percentile(ratios, 0.75))
