"""What has happened in a pool so far, in figures. Pure."""

from __future__ import annotations

from collections import Counter

from warmpool.census import Total
from warmpool.events import ExitReason


class Sum:
    """Adds up durations."""

    __slots__ = ("_count", "_seconds")

    def __init__(self) -> None:
        self._count = 0
        self._seconds = 0.0

    def add(self, seconds: float) -> None:
        """One more. A task taken by a lease may have started before the core heard of it."""
        self._count += 1
        if seconds > 0.0:
            self._seconds += seconds

    @property
    def total(self) -> Total:
        """What there is so far."""
        return Total(self._count, self._seconds)


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
