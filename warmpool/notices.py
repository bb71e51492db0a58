"""What ``on_event`` is told: one frozen value for each thing that happens.

``at`` is always of ``time.monotonic()``; durations are in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from warmpool.facts import Health


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """A worker's process exists."""

    at: float
    worker: int
    pid: int


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker has warmed up, in so many seconds."""

    at: float
    worker: int
    pid: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """Something is wrong with a worker: the error says what, and has all the facts."""

    at: float
    worker: int | None
    pid: int | None
    error: Any
    """A :class:`~warmpool.WarmpoolError`, mostly a :class:`~warmpool.WorkerError`."""
    consequence: str
    """What becomes of it, in words."""


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """A worker is gone; the reasons are those of ``PoolStats.worker_exits``."""

    at: float
    worker: int
    pid: int | None
    reason: str
    uptime: float
    tasks_done: int


@dataclass(frozen=True, slots=True)
class TaskQueued:
    """A task was submitted."""

    at: float
    task: int
    name: str | None
    """Of its function."""


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """A worker has got a task, which had waited for so long.

    A small task may be laid out for a worker that is busy, and counts as started as soon as that
    has answered the one before. If it is taken back then, since the worker had not come to it, it
    is told once more where it starts instead, with the same ``attempt``: the last word counts.
    """

    at: float
    task: int
    name: str | None
    worker: int
    pid: int | None
    waited: float
    attempt: int
    """1, or more if an earlier run failed."""


@dataclass(frozen=True, slots=True)
class TaskSettled:
    """A task has its answer."""

    at: float
    task: int
    name: str | None
    outcome: str
    """``"returned"``, ``"raised"``, ``"failed"`` or ``"cancelled"``."""
    cause: str | None
    """What it failed of, as in ``PoolStats.tasks_failed``; None if it did not."""
    since_submission: float


@dataclass(frozen=True, slots=True)
class HealthChanged:
    """The pool's health is another."""

    at: float
    health: Health
    before: Health


@dataclass(frozen=True, slots=True)
class NoticesDropped:
    """So many notices were not told, since ``on_event`` does not keep up."""

    at: float
    count: int


Notice: TypeAlias = (
    WorkerStarted
    | WorkerReady
    | WorkerFailed
    | WorkerExited
    | TaskQueued
    | TaskStarted
    | TaskSettled
    | HealthChanged
    | NoticesDropped
)
