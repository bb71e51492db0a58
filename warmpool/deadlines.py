"""Deadlines of many things in one heap, with lazy deletion.

A deadline is moved or dropped by its owner alone, who keeps the one that counts; the heap is told
of additions only and asks the owner whether an entry still holds. So nothing has to be searched
for when a task ends before its limit, which nearly all do.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from enum import IntEnum


class Owner(IntEnum):
    """Whose deadline it is. The order decides between simultaneous ones."""

    POOL = 0
    WORKER = 1
    TASK = 2
    SLOT = 3
    PULSE = 4
    SURPLUS = 5
    AGE = 6
    MEMORY = 7
    SOFT = 8
    TRAY = 9


Entry = tuple[float, Owner, int]

_SLACK = 256


class Deadlines:
    """A heap of (time, owner, id)."""

    def __init__(self, holds: Callable[[float, Owner, int], bool]) -> None:
        self._holds = holds
        self._heap: list[Entry] = []
        self._tidy_at = _SLACK

    def add(self, at: float, owner: Owner, id: int) -> None:
        """Note that the owner's deadline is now this one."""
        heapq.heappush(self._heap, (at, owner, id))
        if len(self._heap) > self._tidy_at:
            self._tidy()

    def next(self) -> float | None:
        """The earliest deadline that holds."""
        heap = self._heap
        while heap and not self._holds(*heap[0]):
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> Iterator[tuple[Owner, int]]:
        """Take out those that hold and have passed, earliest first.

        What is done about one may add others or unmake them: each is asked again as it comes up.
        """
        heap = self._heap
        while heap and heap[0][0] <= now:
            at, owner, id = heapq.heappop(heap)
            if self._holds(at, owner, id):
                yield owner, id

    def _tidy(self) -> None:
        # Ten thousand tasks a second with a limit of a minute each would otherwise leave 600,000
        # dead entries; doubling keeps the cost of each addition constant on average.
        self._heap = [entry for entry in self._heap if self._holds(*entry)]
        heapq.heapify(self._heap)
        self._tidy_at = 2 * len(self._heap) + _SLACK
