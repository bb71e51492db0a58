"""When a slot may start its next worker, and when a pool counts as broken.

Pure functions of history and now. The delay doubles with each failure in a row and carries
jitter, so that the slots of a pool, and the pools of a host that all lost the same resource, do
not come back in step. Restart intensity is the sliding window of OTP's ``supervisor``: more
than so many failures in so many seconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How eagerly failing workers are replaced. Durations are in seconds."""

    first_delay: float = 0.1
    factor: float = 2.0
    longest_delay: float = 30.0
    jitter: float = 0.2
    """A delay is multiplied by 1 ± jitter."""
    stable_after: float = 1.0
    """A worker that was warm for less, and did no task, counts as a failed start when it dies:
    else one that gets warm and dies at once would be restarted in a busy loop (s6 does the
    same)."""
    failures_per_slot: int = 2
    """The pool is unwell when, in the period, more than this for each slot have failed."""
    slack: float = 60.0
    """Added to the period, see :meth:`period`."""

    def intensity(self, slots: int) -> int:
        """The number of failures within the period that is still tolerated."""
        return self.failures_per_slot * slots

    def period(self, init_timeout: float) -> float:
        """The length of the sliding window.

        Long enough that a slot whose workers all hang for the whole of ``init_timeout`` still
        fits its tolerated failures, and one more, in it: were it a constant, a slow failure
        would never add up, and waiting tasks would be held for ever.
        """
        return self.slack + (self.failures_per_slot + 1) * (init_timeout + self.longest_delay)

    def delay(self, failures: int, random: float) -> float:
        """The wait before the next start, after so many failures in a row.

        Args:
            failures: Failures in a row; 0 gives no delay.
            random: A random number in [0, 1).
        """
        if failures <= 0:
            return 0.0
        # The exponent is bounded before it is used: 2.0 ** 1100 raises OverflowError.
        steps = min(failures - 1, 64)
        return self._jittered(
            min(self.longest_delay, self.first_delay * self.factor**steps), random
        )

    def probe_delay(self, random: float) -> float:
        """The wait between two probes of a broken pool."""
        return self._jittered(self.longest_delay, random)

    @property
    def shortest_probe_delay(self) -> float:
        """What jitter may make of the longest delay, at the least."""
        return self.longest_delay * (1.0 - self.jitter)

    def _jittered(self, delay: float, random: float) -> float:
        return delay * (1.0 + self.jitter * (2.0 * random - 1.0))


@dataclass(slots=True)
class FailureWindow:
    """The failures of the last ``period`` seconds."""

    period: float
    tolerated: int
    _times: deque[float] = field(default_factory=deque)

    def add(self, now: float) -> bool:
        """Record a failure; True if there are now more than are tolerated."""
        self._times.append(now)
        while self._times and self._times[0] < now - self.period:
            self._times.popleft()
        # Only the newest matter: memory stays bounded however long the pool fails.
        while len(self._times) > self.tolerated + 1:
            self._times.popleft()
        return len(self._times) > self.tolerated

    def clear(self) -> None:
        """Forget all of them."""
        self._times.clear()
