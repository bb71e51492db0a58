"""Workers in whose trays something lies, and which of them has the most there. Pure."""

from __future__ import annotations

import heapq

from warmpool.lifecycle import Worker

_SLACK = 16


class Laid(dict[int, Worker]):
    """Workers by their numbers. Taken out by ``pop()``."""

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[tuple[int, int]] = []
        # Invariant: each worker has an entry that says how many tasks lie there, or lay when it was
        # made: trays are emptied by and by, and only the first entry need be true.

    def add(self, worker: Worker) -> None:
        """Something more was laid out for this one."""
        self[worker.id] = worker
        heapq.heappush(self._heap, (-len(worker.tray), worker.id))
        if len(self._heap) > 2 * len(self) + _SLACK:
            self._heap = sorted((-len(worker.tray), id) for id, worker in self.items())

    def fullest(self) -> Worker:
        """The one with the most; of several the oldest. There must be one."""
        while True:
            count, id = self._heap[0]
            worker = self.get(id)
            if worker is None:
                heapq.heappop(self._heap)
            elif len(worker.tray) != -count:
                heapq.heapreplace(self._heap, (-len(worker.tray), id))
            else:
                return worker

    def validate(self) -> None:
        """Assert that none has more than its entry says."""
        said: dict[int, int] = {}
        for count, id in self._heap:
            said[id] = max(-count, said.get(id, 0))
        assert all(said[id] >= len(worker.tray) for id, worker in self.items())
