"""What has happened in a pool so far, in figures. Pure."""

from __future__ import annotations

from collections import Counter

from warmpool.census import Total
from warmpool.events import ExitReason


class Sum:
    """Adds up durations."""

    __slots__ = ("count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.count += 1
        self.seconds += seconds

    @property
    def total(self) -> Total:
        """What there is so far."""
        return Total(self.count, self.seconds)


class Ledger:
    """The figures that are not derived from what there is now, since it has passed."""

    def __init__(self) -> None:
        self.exits: Counter[ExitReason] = Counter()
        self.cold_starts = 0
        """Tasks that waited until a worker had warmed up for them."""
        self.waits = Sum()
        """From submission, or a failed run, to dispatch."""
        self.runs = Sum()
        """From dispatch to the end of the run."""
        self.warm_ups = Sum()
        """From the start of a worker to its being ready."""
