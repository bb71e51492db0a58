"""What is to be done: the core's answers, in the imperative. See :mod:`warmpool.events`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from warmpool.facts import Failure, Health, Outcome
from warmpool.notices import Notice


@dataclass(frozen=True, slots=True)
class StartWorker:
    worker: int
    slot: int


@dataclass(frozen=True, slots=True)
class DispatchTask:
    worker: int
    task: int


@dataclass(frozen=True, slots=True)
class LayOut:
    """Put these into the tray of a worker that is busy: it takes them by itself."""

    worker: int
    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Empty a worker's tray."""

    worker: int


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Ask the worker to leave in order."""

    worker: int


@dataclass(frozen=True, slots=True)
class TakeStack:
    """Have the worker write down where it is, for it is going to be killed."""

    worker: int
    task: int | None = None
    """The task that it has."""


@dataclass(frozen=True, slots=True)
class InterruptTask:
    """Raise :class:`~warmpool.SoftTimeout` in a task, so that it can clean up and end."""

    worker: int
    task: int
    limit: float | None
    """Its soft time limit, in seconds; None if its owner asked for its end."""
    left: float | None
    """Seconds until the worker is killed; None: never."""


@dataclass(frozen=True, slots=True)
class ReadHeartbeats:
    """Look how often these workers have beaten."""

    workers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReadMemory:
    """Look how much memory these workers use."""

    workers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KillWorker:
    """SIGKILL to the worker and its process group, or give up a start under way."""

    worker: int


@dataclass(frozen=True, slots=True)
class AbandonWorker:
    """Let go of a worker that outlived SIGKILL (uninterruptible sleep): the pool must end."""

    worker: int


@dataclass(frozen=True, slots=True)
class SettleTask:
    """Give the task its one answer: exactly one of payload (with outcome) and failure."""

    task: int
    outcome: Outcome | None = None
    payload: Any = None
    failure: Failure | None = None
    started_at: float | None = None
    """When it began, if it was laid out before that."""


@dataclass(frozen=True, slots=True)
class DropTask:
    """Forget a task whose future the caller has cancelled, or cancel it for them."""

    task: int


@dataclass(frozen=True, slots=True)
class AnswerWarm:
    waiter: int
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class ReportFailure:
    """One line in the log."""

    failure: Failure
    consequence: str


@dataclass(frozen=True, slots=True)
class ReportSilence:
    """One line in the log: a worker has not beaten for a while, and is killed if that goes on."""

    worker: int
    pid: int | None
    stage: str
    task: int | None
    seconds: float
    limit: float


@dataclass(frozen=True, slots=True)
class ReportMemory:
    """One line in the log: a worker uses more than ``memory_warning``, or an idle one is too large
    to stay.
    """

    worker: int
    pid: int | None
    stage: str
    task: str | None
    used: int
    limit: int
    is_limit: bool
    """Whether that is ``memory_limit``, which costs the worker."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell ``on_event``."""

    notice: Notice


@dataclass(frozen=True, slots=True)
class ChangeHealth:
    health: Health
    cause: Failure | None = None


@dataclass(frozen=True, slots=True)
class EndPool:
    """Every task is answered and every worker gone."""


Command: TypeAlias = (
    StartWorker
    | DispatchTask
    | LayOut
    | TakeBack
    | StopWorker
    | TakeStack
    | InterruptTask
    | ReadHeartbeats
    | ReadMemory
    | KillWorker
    | AbandonWorker
    | SettleTask
    | DropTask
    | AnswerWarm
    | ReportFailure
    | ReportSilence
    | ReportMemory
    | Tell
    | ChangeHealth
    | EndPool
)
