"""A pool, its workers, and a task, in figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from warmpool.census import Census, Total, WorkerInfo
from warmpool.events import Health


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one instant. Counts are since its start.

    Attributes:
        health: Its health.
        workers: How many workers are in which state, by the state's name (``"idle"``, ...).
        queued: Tasks that wait for a worker.
        running: Tasks that a worker has.
        workers_started: Workers that were started.
        workers_failed: Workers that failed to get, or to stay, warm.
        worker_exits: Workers that are gone, by the reason: ``"recycled"``, ``"unused"``,
            ``"aged"``, ``"closed"``, ``"initializer failed"``, ``"died"``, ``"timed out"``,
            ``"killed"``, ``"unresponsive"``, ``"out of memory"``, ``"broke protocol"``.
        tasks_submitted: Tasks that were submitted.
        tasks_settled: Tasks by how they ended: ``"returned"``, ``"raised"``, ``"failed"`` (an
            error of warmpool's), ``"cancelled"``.
        tasks_failed: Those that failed, by the cause: ``"task timeout"``, ``"died"``, ...
        cold_starts: Tasks that waited until a worker had warmed up for them.
        waits: How often tasks waited for a worker, if only for an instant, and for how many seconds
            in all.
        runs: The same of their runs: ``runs.seconds / runs.count`` is the mean time in a worker.
        warm_ups: The same of workers, from start to ready.
        details: Each worker that there is.
    """

    health: Health
    workers: Mapping[str, int]
    queued: int
    running: int
    workers_started: int
    workers_failed: int
    worker_exits: Mapping[str, int]
    tasks_submitted: int
    tasks_settled: Mapping[str, int]
    tasks_failed: Mapping[str, int]
    cold_starts: int
    waits: Total
    runs: Total
    warm_ups: Total
    details: tuple[WorkerInfo, ...]


def stats_of(census: Census) -> PoolStats:
    """What the core counted, as its users see it."""
    return PoolStats(
        health=census.health,
        workers=MappingProxyType(census.workers),
        queued=census.queued,
        running=census.running,
        workers_started=census.workers_started,
        workers_failed=census.workers_failed,
        worker_exits=MappingProxyType(census.worker_exits),
        tasks_submitted=census.tasks_submitted,
        tasks_settled=MappingProxyType(census.tasks_settled),
        tasks_failed=MappingProxyType(census.tasks_failed),
        cold_starts=census.cold_starts,
        waits=census.waits,
        runs=census.runs,
        warm_ups=census.warm_ups,
        details=census.details,
    )


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """What is known of a task. Times are of ``time.monotonic()``, in seconds.

    Attributes:
        pid: The worker that runs or ran it last, None if none did.
        queued: When it was submitted.
        started: When it was last handed to a worker, None if it was not.
        ended: When it was settled, None if it is not.
        attempts: How often it was handed to a worker.
    """

    pid: int | None
    queued: float
    started: float | None
    ended: float | None
    attempts: int
