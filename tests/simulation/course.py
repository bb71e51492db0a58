"""Many seeds, one after the other, and what they come to in all."""

from __future__ import annotations

import time
from collections import Counter

from tests.simulation.scenario import run

MIXTURE = ("storm", "everyday", "storm", "quiet")
"""Storms find most; the hours come from the others."""


class Course:
    """Runs seed after seed.

    Args:
        first: The first seed.
        only: A kind of pools, if not all of them.
    """

    def __init__(self, first: int, only: str | None = None) -> None:
        self._first = self._seed = first
        self._kinds = MIXTURE if only is None else (only,)
        self._began = time.monotonic()
        self.hours = 0.0
        self.events = 0
        self.workers = 0
        self.tasks = 0
        self.faults = 0
        self.outcomes: Counter[str] = Counter()

    def step(self) -> None:
        """Run one more.

        Raises:
            Failed: It has found something.
        """
        kind = self._kinds[self._seed % len(self._kinds)]
        report = run(self._seed, kind)
        self._seed += 1
        self.hours += report.hours
        self.events += report.events
        self.workers += report.workers
        self.tasks += report.tasks
        self.faults += report.faults
        self.outcomes.update(report.outcomes)

    def go_on(self, seeds: int) -> None:
        """Run so many more; as :meth:`step`."""
        for _ in range(seeds):
            self.step()

    def __str__(self) -> str:
        return (
            f"seeds {self._first} to {self._seed - 1}: {self.hours:,.0f} pool-hours, "
            f"{self.events:,} events, {self.workers:,} workers, {self.tasks:,} tasks, "
            f"{self.faults:,} faults in {time.monotonic() - self._began:.0f} s"
        )
