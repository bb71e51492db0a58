"""Slots, and which of the vacant ones gets the next worker. Pure.

A heap with lazy deletion, like that of the deadlines: a slot says itself whether an entry still
holds. So what it takes to fill one slot does not depend on how many there are.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_SLACK = 16


@dataclass(slots=True)
class Slot:
    """A place in the pool. Outlives its workers and keeps their history (I9)."""

    index: int
    worker: int | None = None
    failures: int = 0
    """Failed starts in a row."""
    next_start_at: float | None = None
    # Invariant: None unless the slot is vacant.

    @property
    def is_free(self) -> bool:
        """Whether it has neither a worker nor a time for the next."""
        return self.worker is None and self.next_start_at is None


class Vacancies:
    """The free slots, those first that have failed, and so have to wait.

    Else a pool that needs but one worker would go through all its slots at full speed.

    Args:
        slots: All slots of the pool.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = slots
        self._heap: list[tuple[int, int]] = []
        # Invariant: each free slot has an entry, by its failures and its index.
        self.renew()

    def add(self, slot: Slot) -> None:
        """Note that a slot has become free."""
        heapq.heappush(self._heap, (-slot.failures, slot.index))
        if len(self._heap) > 2 * len(self._slots) + _SLACK:
            self.renew()

    def take(self, number: int) -> Iterator[Slot]:
        """So many of them, or all that there are; each is to be filled before the next is taken."""
        while number > 0 and self._heap:
            slot = self._holds(heapq.heappop(self._heap))
            if slot is not None:
                number -= 1
                yield slot

    def renew(self) -> None:
        """Look at all slots anew, after their failures were forgotten."""
        self._heap = sorted((-slot.failures, slot.index) for slot in self._slots if slot.is_free)

    def _holds(self, entry: tuple[int, int]) -> Slot | None:
        failures, index = entry
        slot = self._slots[index]
        return slot if slot.is_free and slot.failures == -failures else None

    def validate(self) -> None:
        """Assert that no free slot is forgotten."""
        known = {slot.index for entry in self._heap if (slot := self._holds(entry)) is not None}
        assert known == {slot.index for slot in self._slots if slot.is_free}
