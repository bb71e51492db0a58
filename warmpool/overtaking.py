"""Turns that the supervisor has overtaken: what it does with what their readers have left."""

from __future__ import annotations

import time
from collections.abc import Callable

from warmpool.fleet import Fleet
from warmpool.loop import Loop
from warmpool.turns import Turn

ASK_AGAIN = 0.001
"""Seconds between two looks whether a reader is through with the system call that it was met in."""
READ_PATIENCE = 2.0
"""Seconds that it has for that. It takes microseconds, unless the system does not let it run."""
READ_LOOKS = 100
"""Looks that it has at least: a stall of the whole process lets neither of the two run."""


class Overtaken:
    """Those that the supervisor has yet to see to. *Threads:* the supervisor's.

    Args:
        fleet: Has the workers.
        loop: For asking again.
        report: Told of each worker that is killed since its reader got stuck.
    """

    def __init__(self, fleet: Fleet, loop: Loop, report: Callable[[int], None]) -> None:
        self._fleet = fleet
        self._loop = loop
        self._report = report
        self._turns: list[tuple[float, int, int, Turn]] = []
        # Invariant: until when each is left alone, and at how many looks at least.
        self._asks_again = False

    def add(self, worker: int, turn: Turn) -> None:
        """See to a revoked turn that was not won, once the core knows of its task."""
        self._turns.append((time.monotonic() + READ_PATIENCE, READ_LOOKS, worker, turn))

    def go_on(self) -> bool:
        """See to those whose readers are in the middle of nothing.

        Returns:
            Whether there were any, so that the selector may have something to report.
        """
        if not self._turns:
            return False
        turns, self._turns = self._turns, []
        now, some = time.monotonic(), False
        for give_up_at, looks, worker, turn in turns:
            if not turn.is_under_way:
                self._fleet.take_over(worker, turn.taken_in)
                some = True
            elif now < give_up_at or looks:
                self._fleet.hold_off(worker)
                self._turns.append((give_up_at, max(0, looks - 1), worker, turn))
            else:
                # What was read may never be seen again.
                self._fleet.lose(worker)
                self._report(worker)
        if self._turns and not self._asks_again:
            self._asks_again = True
            self._loop.call_at(now + ASK_AGAIN, self._ask_again)
        return some

    def _ask_again(self) -> None:
        self._asks_again = False
        self.go_on()
