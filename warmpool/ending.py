"""How far a pool is on its way to its end, and by when it has to be there."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from warmpool.deadlines import Deadlines, Owner

KILL_RESERVE = 0.2
"""Of a ``close(timeout)``, what is kept for SIGKILL and reaping: this, or a fifth if less."""

ABANDON_AFTER = 10.0
"""Seconds that a closing pool waits for SIGKILL to work: a process in uninterruptible sleep (a
dead network file system) does not die before its system call ends."""


class Phase(enum.Enum):
    """The life of a pool; it goes one way."""

    OPEN = "open"
    """Takes tasks."""
    DRAINING = "draining"
    """Takes none, finishes those it has."""
    CLOSING = "closing"
    """Has answered what waited; running tasks have till the kill deadline."""
    CLOSED = "closed"
    """Every task is answered, every worker gone."""


OPEN, DRAINING, CLOSING, CLOSED = Phase


class Step(enum.IntEnum):
    """The two deadlines of a closing pool."""

    KILL = 0
    ABANDON = 1


@dataclass(slots=True)
class Ending:
    """The phase, and the one deadline that counts while CLOSING."""

    deadlines: Deadlines
    phase: Phase = OPEN
    step: Step | None = None
    at: float | None = None
    # Invariant: step and at are set exactly while CLOSING.

    def close_by(self, now: float, grace: float, timeout: float | None) -> None:
        """Start closing, or bring the kill forward; it is never put off."""
        self.phase = CLOSING
        if self.step is Step.ABANDON:
            return
        kill_at = now + grace
        if timeout is not None:
            kill_at = min(kill_at, now + timeout - min(KILL_RESERVE, timeout / 5))
        if self.at is None or kill_at < self.at:
            self._set(Step.KILL, kill_at)

    def killed(self, now: float) -> None:
        """All that was alive is killed: wait for their deaths, but not for ever."""
        self._set(Step.ABANDON, now + ABANDON_AFTER)

    def ended(self) -> None:
        """It is over."""
        self.phase = CLOSED
        self.step = self.at = None

    def _set(self, step: Step, at: float) -> None:
        self.step, self.at = step, at
        self.deadlines.add(at, Owner.POOL, step)

    def validate(self) -> None:
        """Assert the invariant."""
        assert (self.at is not None) == (self.step is not None) == (self.phase is CLOSING)
