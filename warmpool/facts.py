"""The values that events and commands have in common."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, NamedTuple


class Health(enum.Enum):
    """How the pool is. ``pool.available`` is True unless BROKEN or CLOSED."""

    WARMING = "warming"
    """No worker is warm yet, and none is known to fail."""
    READY = "ready"
    """At least one worker is warm, and none is failing."""
    DEGRADED = "degraded"
    """The last worker of some slot failed to get or to stay warm."""
    BROKEN = "broken"
    """Workers keep failing and none is warm: tasks fail at once, one slot goes on probing."""
    CLOSED = "closed"
    """Shut down or closed: no task is taken."""


class FailureKind(enum.Enum):
    """What went wrong, one for each kind of error a caller can meet."""

    POOL_CLOSED = "pool closed"
    POOL_SATURATED = "pool saturated"
    POOL_BROKEN = "pool broken"
    QUEUE_TIMEOUT = "queue timeout"
    START_FAILED = "start failed"
    INITIALIZER_RAISED = "initializer raised"
    INITIALIZER_TIMEOUT = "initializer timeout"
    DIED = "died"
    KILL_REQUESTED = "kill requested"
    BROKE_PROTOCOL = "broke protocol"
    TASK_TIMEOUT = "task timeout"
    UNRESPONSIVE = "unresponsive"
    OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True, slots=True)
class Failure:
    """The facts of one failure; the supervisor makes an exception of them."""

    kind: FailureKind
    worker: int | None = None
    pid: int | None = None
    stage: str | None = None
    exitcode: int | None = None
    uptime: float | None = None
    started: bool = False
    limit: float | None = None
    detail: str | None = None
    remote: Any = None
    """What the worker or the operating system said about it: opaque to the core."""
    cause: Failure | None = None
    silent: float | None = None
    used: int | None = None
    """Bytes."""
    task: str | None = None
    """The task in words."""
    stack: str | None = None
    story: tuple[str, ...] = ()


SMALL = 1 << 13
"""Bytes of a task, pickled, that may go by way of a tray: as a chunk of a map has them."""


class TaskSpec(NamedTuple):
    """A task as the core knows it. All durations are in seconds, None means no limit."""

    id: int
    timeout: float | None = None
    queue_timeout: float | None = None
    retries: int = 0
    soft_timeout: float | None = None
    name: str | None = None
    """Of its function."""
    size: int = 0
    """Bytes of function and arguments, pickled."""


class Outcome(enum.Enum):
    """How a task ended in its worker."""

    RETURNED = "returned"
    RAISED = "raised"


class PassedTask(NamedTuple):
    """A task that went past the supervisor, there and back: by a lease, and by a turn."""

    spec: TaskSpec
    taken_at: float
    """When it went to its worker (monotonic)."""
    done_at: float
    """When its answer had come."""
    outcome: Outcome


class ExitReason(enum.Enum):
    """Why a worker is gone."""

    RECYCLED = "recycled"
    """It has done ``max_tasks_per_child`` tasks."""
    UNUSED = "unused"
    """It was not needed for ``idle_timeout``."""
    AGED = "aged"
    RELOADED = "reloaded"
    """It has reached ``worker_lifetime``."""
    CLOSED = "closed"
    """Its pool ended."""
    INITIALIZER_FAILED = "initializer failed"
    """It could not be started, or raised, died, hung or broke the protocol before it was ready."""
    DIED = "died"
    TIMED_OUT = "timed out"
    """Its task ran into its limit."""
    KILLED = "killed"
    """By ``TaskFuture.kill()``."""
    UNRESPONSIVE = "unresponsive"
    OUT_OF_MEMORY = "out of memory"
    """It has grown past ``memory_limit``."""
    BROKE_PROTOCOL = "broke protocol"
