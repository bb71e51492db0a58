"""What happened, and what is to be done about it: the two vocabularies of the core.

Events are in the past tense, commands in the imperative. Both are plain values: the core gets
events and the time, and answers with commands; the supervisor turns readiness into events and
commands into system calls. Payloads pass through as opaque objects and are never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from warmpool.facts import ExitReason as ExitReason
from warmpool.facts import Failure as Failure
from warmpool.facts import FailureKind as FailureKind
from warmpool.facts import Health as Health
from warmpool.facts import Outcome as Outcome
from warmpool.facts import PassedTask as PassedTask
from warmpool.facts import TaskSpec as TaskSpec
from warmpool.notices import Notice

# ---------------------------------------------------------------------------- events: callers


@dataclass(frozen=True, slots=True)
class TaskSubmitted:
    task: TaskSpec


@dataclass(frozen=True, slots=True)
class TaskTaken:
    """A task went to an idle worker by a lease, past the queue, which was empty."""

    task: TaskSpec
    worker: int
    at: float


@dataclass(frozen=True, slots=True)
class TasksPassed:
    """Tasks went to an idle worker by a lease, and whoever waited for them has read the answers.

    In this order, all since the last event; a :class:`TaskTaken` may follow.
    """

    worker: int
    tasks: tuple[PassedTask, ...]


@dataclass(frozen=True, slots=True)
class TaskCancelled:
    """The future is cancelled already: the task needs no answer, only to be forgotten."""

    task: int


@dataclass(frozen=True, slots=True)
class TaskKillRequested:
    """To be killed; with a grace, in seconds, to be asked to end first."""

    task: int
    grace: float | None = None


@dataclass(frozen=True, slots=True)
class WarmAwaited:
    waiter: int


@dataclass(frozen=True, slots=True)
class WarmAbandoned:
    waiter: int


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """Finish what was taken, then end; or first drop what has not started."""

    cancel_queued: bool = False


@dataclass(frozen=True, slots=True)
class ReloadRequested:
    """Workers are started otherwise from here on: replace all those of before."""


@dataclass(frozen=True, slots=True)
class CloseRequested:
    """End within ``timeout`` seconds; None: the pool's grace."""

    timeout: float | None = None


# ---------------------------------------------------------------------------- events: workers


@dataclass(frozen=True, slots=True)
class WorkerSpawned:
    """The process exists. It may be dead by now."""

    worker: int
    pid: int


@dataclass(frozen=True, slots=True)
class WorkerStartFailed:
    """There is no process, and there will be none."""

    worker: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class WorkerGreeted:
    """The worker's interpreter is up and ``__main__`` is imported; the initializer is next."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerReady:
    worker: int


@dataclass(frozen=True, slots=True)
class InitializerRaised:
    worker: int
    remote: Any = None


@dataclass(frozen=True, slots=True)
class TaskDone:
    worker: int
    task: int
    outcome: Outcome
    payload: Any = None


@dataclass(frozen=True, slots=True)
class WorkerBrokeProtocol:
    worker: int
    detail: str
    last_started: int = 0
    """As in :class:`WorkerExited`."""


@dataclass(frozen=True, slots=True)
class WorkerChannelClosed:
    """End of file from the worker. Not its death (I4), though mostly the herald of it."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """The process is gone and reaped. All that it had written came before this."""

    worker: int
    exitcode: int | None
    """None: somebody else collected it."""
    last_started: int = 0
    """The last task that the worker noted as started in its flight recorder, 0 for none."""
    stack: str | None = None
    """What its fault handler has written, if it has."""
    out_of_memory: bool = False
    """Whether the kernel's out-of-memory killer was at work."""


@dataclass(frozen=True, slots=True)
class StackTaken:
    """The answer to :class:`TakeStack`."""

    worker: int
    stack: str | None
    """None: there was none to be had."""
    last_started: int = 0
    """As in :class:`WorkerExited`."""


@dataclass(frozen=True, slots=True)
class HeartbeatsRead:
    """How often each warm worker has beaten: the answer to :class:`ReadHeartbeats`."""

    beats: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class MemoryRead:
    """How much a worker and its descendants use: the answer to :class:`ReadMemory`, for one."""

    worker: int
    used: int | None
    """Bytes; None: it could not be read."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Nothing happened, but a deadline may have passed."""


PoolEvent: TypeAlias = (
    TaskSubmitted
    | TaskTaken
    | TasksPassed
    | TaskCancelled
    | TaskKillRequested
    | WarmAwaited
    | WarmAbandoned
    | ShutdownRequested
    | ReloadRequested
    | CloseRequested
    | HeartbeatsRead
    | MemoryRead
    | TimePassed
)
WorkerEvent: TypeAlias = (
    WorkerSpawned
    | WorkerStartFailed
    | WorkerGreeted
    | WorkerReady
    | InitializerRaised
    | TaskDone
    | WorkerBrokeProtocol
    | WorkerChannelClosed
    | WorkerExited
    | StackTaken
)
Event: TypeAlias = PoolEvent | WorkerEvent

# ---------------------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class StartWorker:
    worker: int
    slot: int


@dataclass(frozen=True, slots=True)
class DispatchTask:
    worker: int
    task: int


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
