"""What there is in a small world, and what may go wrong in it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from warmpool.events import TaskSpec
from warmpool.restart import RestartPolicy
from warmpool.state import Settings

# Halves and quarters add up exactly, and few different sums means few different states.
INIT_TIMEOUT = 4.0
GRACE = 2.0
LIMIT = 1.0

POLICY = RestartPolicy(
    first_delay=1.0,
    longest_delay=2.0,
    jitter=0.0,
    stable_after=1.0,
    failures_per_slot=1,
    # So long that no failure is ever forgotten: then their number is all that matters.
    slack=1e9,
)
COARSE = replace(POLICY, stable_after=0.0, jitter=1.0)
"""Trays have to do with hundredths of seconds. Without ages in them there are few different states:
workers prove themselves at once, and a broken pool may probe at any time. (Random numbers are such
that jitter changes nothing.)"""
FURTHEST_REACH = 2
"""How many may be laid out for one worker: as :data:`warmpool.trays.MOST`, but fewer."""
MOST_FAILURES = 2
"""In a row of one slot, beyond which the delay is the longest: from there on all are alike."""


def some_settings(max_workers: int, **more: object) -> Settings:
    """Settings with durations that suit an exploration."""
    options = {
        "init_timeout": INIT_TIMEOUT,
        "grace": GRACE,
        "heartbeat_timeout": None,
        "restart": POLICY,
        **more,
    }
    return Settings(max_workers, **options)  # type: ignore[arg-type]


def a_task(
    id: int,
    timeout: float | None = None,
    queue_timeout: float | None = None,
    retries: int = 0,
    soft_timeout: float | None = None,
    size: int = 0,
    name: str | None = None,
) -> TaskSpec:
    return TaskSpec(id, timeout, queue_timeout, retries, soft_timeout, name, size)


def with_trays(max_workers: int, **more: object) -> Settings:
    """Settings of a pool whose workers have trays."""
    return some_settings(max_workers, lays_out=True, restart=COARSE, **more)


@dataclass(frozen=True)
class Case:
    """A small world.

    A task that has been answered may be submitted again, so these are the most at one time, and
    there is no end to how many may come one after the other.
    """

    settings: Settings
    tasks: tuple[TaskSpec, ...] = (a_task(1),)
    faults: int | None = 1
    """How much may go wrong; None: no limit. Time that runs out for a worker that warms up, and all
    that a worker does unasked but should not, is a fault."""
    lies: tuple[str, ...] = ("done",)
    """What a worker may say out of turn, beside garbage."""
    waiters: bool = False
    """Whether there may be somebody who waits for warmth."""
    concerned: tuple[int, ...] | None = None
    """The tasks whose callers may change their mind; None: all of them."""
    cancels: bool = False
    kills: bool = False
    kill_grace: float | None = None
    """The grace of kills that have one; None: none has."""
    leases: bool = False
    shutdowns: bool = False
    close_timeouts: tuple[float | None, ...] = ()
    is_late: bool = False
    """Whether things may happen while a deadline has passed and the core has not been told yet."""
    memory: tuple[int, ...] = ()
    """What a worker may be found to use, in bytes, beside nothing to speak of."""
    ghosts: bool = False
    """Whether workers that have been buried are heard of."""
    silence: bool = False
    """Whether workers may fall silent."""
    reloads: bool = False
    passes: bool = False
    """Whether tasks may go past the core."""
    is_warm: bool = False
    """Whether the workers are warm when it all begins."""
    bursts: bool = False
    """Whether all tasks are submitted that are not there, instead of one."""
    withdrawals: bool = False
    """Whether callers cancel what lies in a tray, or lay there when they looked."""
    is_full: bool = False
    """Whether a tray may have no room for a task (the kernel has no memory). It is a fault."""
    alike: dict[int, int] = field(init=False, repr=False, compare=False)
    """Each task, and the first one that has the same options."""
    twins: dict[int, list[int]] = field(init=False, repr=False, compare=False)
    """Of each such first one all that have the same, in their order."""
    has_twins: bool = field(init=False, repr=False, compare=False)
    """Whether there are several that have the same."""

    def __post_init__(self) -> None:
        first: dict[TaskSpec, int] = {}
        alike = {}
        for spec in self.tasks:
            alike[spec.id] = first.setdefault(spec._replace(id=0), spec.id)
        twins = {one: sorted(id for id in alike if alike[id] == one) for one in first.values()}
        object.__setattr__(self, "alike", alike)
        object.__setattr__(self, "twins", twins)
        object.__setattr__(self, "has_twins", len(first) < len(self.tasks))
