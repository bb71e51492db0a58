"""What happened, and what is to be done about it: the two vocabularies of the core.

Events are in the past tense, commands in the imperative. Both are plain values: the core gets
events and the time, and answers with commands; the supervisor turns readiness into events and
commands into system calls. Payloads pass through as opaque objects and are never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from warmpool.commands import AbandonWorker as AbandonWorker
from warmpool.commands import AnswerWarm as AnswerWarm
from warmpool.commands import ChangeHealth as ChangeHealth
from warmpool.commands import Command as Command
from warmpool.commands import DispatchTask as DispatchTask
from warmpool.commands import DropTask as DropTask
from warmpool.commands import EndPool as EndPool
from warmpool.commands import InterruptTask as InterruptTask
from warmpool.commands import KillWorker as KillWorker
from warmpool.commands import LayOut as LayOut
from warmpool.commands import ReadHeartbeats as ReadHeartbeats
from warmpool.commands import ReadMemory as ReadMemory
from warmpool.commands import ReportFailure as ReportFailure
from warmpool.commands import ReportMemory as ReportMemory
from warmpool.commands import ReportSilence as ReportSilence
from warmpool.commands import SettleTask as SettleTask
from warmpool.commands import StartWorker as StartWorker
from warmpool.commands import StopWorker as StopWorker
from warmpool.commands import TakeBack as TakeBack
from warmpool.commands import TakeStack as TakeStack
from warmpool.commands import Tell as Tell
from warmpool.facts import SMALL as SMALL
from warmpool.facts import ExitReason as ExitReason
from warmpool.facts import Failure as Failure
from warmpool.facts import FailureKind as FailureKind
from warmpool.facts import Health as Health
from warmpool.facts import Outcome as Outcome
from warmpool.facts import PassedTask as PassedTask
from warmpool.facts import TaskSpec as TaskSpec

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
class TaskWithdrawn:
    """Not to be run, if it waits or is laid out."""

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
    interrupts: bool = False
    """Whether running tasks are told, so that they can clean up."""


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
    left: tuple[int, ...] = ()
    """The same."""


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
    left: tuple[int, ...] = ()
    """What was found in its tray."""


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
class TakenBack:
    """What was found in a worker's tray, in its order; the answer to :class:`TakeBack`.

    The task that the worker was believed to have may be among it. Also said of tasks that did not
    fit.
    """

    worker: int
    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Nothing happened, but a deadline may have passed."""


PoolEvent: TypeAlias = (
    TaskSubmitted
    | TaskTaken
    | TasksPassed
    | TaskCancelled
    | TaskWithdrawn
    | TaskKillRequested
    | WarmAwaited
    | WarmAbandoned
    | ShutdownRequested
    | ReloadRequested
    | CloseRequested
    | HeartbeatsRead
    | MemoryRead
    | TakenBack
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
