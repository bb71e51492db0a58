"""What is counted of a pool, all at one instant."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from warmpool.events import Health


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker at one instant. Durations in seconds.

    Attributes:
        id: Its number in the pool.
        pid: Its process, None while there is none.
        state: The name of its state (``"idle"``, ...).
        task: The number of the task that it has, None if it has none.
        task_name: That task's function.
        in_state: For how long it has been in its state.
        uptime: For how long it has existed.
        tasks_done: How many tasks it has done.
        memory: Bytes that it and its descendants were last seen to use; None if nobody looks.
    """

    id: int
    pid: int | None
    state: str
    task: int | None
    task_name: str | None
    in_state: float
    uptime: float
    tasks_done: int
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Total:
    """How often something happened, and how many seconds it took in all."""

    count: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Census:
    """The core counted at one instant, every figure derived from states."""

    health: Health
    workers: dict[str, int] = field(default_factory=dict)
    queued: int = 0
    running: int = 0
    workers_started: int = 0
    workers_failed: int = 0
    worker_exits: dict[str, int] = field(default_factory=dict)
    tasks_submitted: int = 0
    tasks_settled: dict[str, int] = field(default_factory=dict)
    tasks_failed: dict[str, int] = field(default_factory=dict)
    cold_starts: int = 0
    waits: Total = Total()
    runs: Total = Total()
    warm_ups: Total = Total()
    details: tuple[WorkerInfo, ...] = ()

    def of_the_past(self, health: Health) -> Census:
        """The same when nothing of it is left: after a collapse, the core stands still."""
        return replace(self, health=health, workers={}, details=(), queued=0, running=0)
