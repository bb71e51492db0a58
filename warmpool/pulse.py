"""Heartbeats: which workers are silent, and for how long. Pure.

A worker that is stopped, swapped out, or whose interpreter's lock is held by foreign code for very
long, beats no more. Silence is counted in checks that came in time: when this process was itself
stopped, or its machine suspended, the long gap between two checks is no worker's fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BEATS_PER_TIMEOUT = 4
"""A worker beats at least so often within the timeout, whatever the interval is."""

RESTING = 4
"""How many times longer a worker may take for a beat that has had no task since its last one."""

_LATE = 1.5
"""Intervals that one gap between two checks may count for."""


def beat_interval(interval: float, timeout: float | None) -> float:
    """Seconds between two beats of a worker, and two looks at them."""
    return interval if timeout is None else min(interval, timeout / BEATS_PER_TIMEOUT)


def beat_intervals(interval: float, timeout: float | None) -> tuple[float, float]:
    """The same of a worker that has tasks, and of one that rests.

    Little else is what an idle pool costs. The silence of a resting worker is found within the
    timeout as any, and harms nobody before.
    """
    return beat_interval(interval, timeout), beat_interval(RESTING * interval, timeout)


@dataclass(slots=True)
class _Pulse:
    beats: int
    silent: float = 0.0
    reported: bool = False


@dataclass(frozen=True, slots=True)
class Silence:
    """A worker that has not beaten for so many seconds."""

    worker: int
    seconds: float
    is_fatal: bool


class Pulses:
    """What is known of the workers' heartbeats.

    Args:
        interval: Seconds between two checks.
        timeout: Seconds of silence after which a worker is lost; None: never.
    """

    def __init__(self, interval: float, timeout: float | None) -> None:
        self._interval = beat_interval(interval, timeout)
        self._timeout = timeout
        self._pulses: dict[int, _Pulse] = {}
        self._checked_at: float | None = None
        self.next_at: float | None = None
        """When to look again (monotonic), None while there is nobody to look at."""

    def begin(self, now: float) -> bool:
        """There is a warm worker; True if :attr:`next_at` is now set for it."""
        if self._timeout is None or self.next_at is not None:
            return False
        self._checked_at = now
        self.next_at = now + self._interval
        return True

    def check(self, beats: Mapping[int, int], now: float) -> list[Silence]:
        """Take in how often each warm worker has beaten, and tell who is silent for too long.

        A silence is told of when half of the timeout has passed, and when all of it has.
        """
        assert self._timeout is not None
        gap = now - (now if self._checked_at is None else self._checked_at)
        self._checked_at = now
        silences = []
        before, self._pulses = self._pulses, {}
        for worker, count in beats.items():
            pulse = before.get(worker)
            if pulse is None or pulse.beats != count:
                pulse = _Pulse(count)
            else:
                pulse.silent += min(gap, _LATE * self._interval)
            self._pulses[worker] = pulse
            is_fatal = pulse.silent >= self._timeout
            if is_fatal or (pulse.silent >= self._timeout / 2 and not pulse.reported):
                pulse.reported = True
                silences.append(Silence(worker, pulse.silent, is_fatal))
        self.next_at = self._next(now) if beats else None
        return silences

    def _next(self, now: float) -> float:
        assert self._timeout is not None
        longest = max(pulse.silent for pulse in self._pulses.values())
        # Not later than the timeout of the one that is silent for the longest.
        left = self._timeout - longest
        return now + (min(self._interval, left) if left > 0 else self._interval)
