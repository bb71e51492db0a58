"""The thread that commits one fault after the other, while the callers call."""

from __future__ import annotations

import random
import sys
import threading
import traceback
from collections import Counter

from tests.chaos.callers import Scene
from tests.chaos.faults import FAULTS, Deeds

PAUSE = 0.1
"""Seconds between two faults, on the average."""
RELOADS_WITHIN = 60.0
"""Seconds that the last reloads have."""


class Mischief:
    """Commits them. *Threads:* its maker's, but for what its own thread does.

    Args:
        scene: Where.
        seed: Decides which, and when.
    """

    def __init__(self, scene: Scene, seed: str) -> None:
        self.committed: Counter[str] = Counter()
        self._scene = scene
        self._random = random.Random(seed)
        self._deeds = Deeds(scene, self._random)
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mischief", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        weights = [fault.weight for fault in FAULTS]
        try:
            while not self._enough.wait(self._random.expovariate(1 / PAUSE)):
                fault = self._random.choices(FAULTS, weights)[0]
                self.committed[fault.name] += 1
                self._deeds.commit(fault)
                self._deeds.go_on()
            self._deeds.go_on(at_the_end=True)
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            self._scene.ledger.complain(f"no more mischief: {traceback.format_exc()}")

    def end(self) -> None:
        """Undo what can be undone, and have no more of it."""
        self._enough.set()
        self._thread.join(RELOADS_WITHIN)
        if self._thread.is_alive():
            self._scene.ledger.complain("the thread of the faults hangs")
        for thread in self._deeds.reloads:
            thread.join(RELOADS_WITHIN)
            if thread.is_alive():
                self._scene.ledger.complain(f"{thread.name} hangs")
