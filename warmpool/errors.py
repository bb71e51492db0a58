"""What warmpool raises.

::

    WarmpoolError
    ├── PoolClosed (also RuntimeError)
    ├── PoolSaturated
    ├── QueueTimeout (also TimeoutError)
    ├── PoolBroken
    ├── SoftTimeout
    ├── PayloadError (also pickle.PicklingError and pickle.UnpicklingError)
    └── WorkerError
        ├── InitializerFailed
        ├── TemplateFailed
        ├── WorkerDied
        ├── WorkerUnresponsive
        ├── MemoryLimitExceeded
        ├── ProtocolError
        └── TaskTimeout (also TimeoutError)

Each keeps its facts in attributes and survives pickling, since a task may itself use a pool
and let an error of it pass. None is a ``BrokenExecutor``: frameworks end themselves on that,
and a warmpool that has lost a worker is not broken.

What a task raised is raised again as itself, with a :class:`RemoteTraceback` as its cause.
"""

from __future__ import annotations

import pickle
import signal
from typing import Any

__all__ = [
    "InitializerFailed",
    "MemoryLimitExceeded",
    "PayloadError",
    "PoolBroken",
    "PoolClosed",
    "PoolSaturated",
    "ProtocolError",
    "QueueTimeout",
    "RemoteTraceback",
    "SoftTimeout",
    "TaskTimeout",
    "TemplateFailed",
    "WarmpoolError",
    "WorkerDied",
    "WorkerError",
    "WorkerUnresponsive",
]


class WarmpoolError(Exception):
    """Everything that warmpool raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own way calls the class with args, which breaks every subclass whose
        # constructor takes keywords: attributes travel as a dictionary instead.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(
    cls: type[WarmpoolError], args: tuple[Any, ...], attributes: dict[str, Any]
) -> WarmpoolError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class PoolClosed(WarmpoolError, RuntimeError):
    """The pool takes no tasks any more, or ended before this one was done."""


class PoolSaturated(WarmpoolError):
    """As many tasks wait as ``max_queue`` allows.

    Attributes:
        max_queue: The limit that was met.
    """

    def __init__(self, message: str, *, max_queue: int | None = None) -> None:
        super().__init__(message)
        self.max_queue = max_queue


class QueueTimeout(WarmpoolError, TimeoutError):
    """No warm worker took the task within ``queue_timeout``.

    Attributes:
        limit: The limit, in seconds.
    """

    def __init__(self, message: str, *, limit: float | None = None) -> None:
        super().__init__(message)
        self.limit = limit


class PoolBroken(WarmpoolError):
    """Workers keep failing to get warm; ``__cause__`` is the last :class:`WorkerError`."""


class PayloadError(WarmpoolError, pickle.PicklingError, pickle.UnpicklingError):
    """An argument, a result or an exception could not be pickled or unpickled."""


class WorkerError(WarmpoolError):
    """Something happened to one worker process.

    Attributes:
        pid: The worker's process id, None if it never had one.
        worker_id: The worker's number in its pool.
        stage: What it was doing: ``"starting"`` (interpreter, imports of ``__main__``),
            ``"initializing"``, ``"idle"``, ``"busy"`` or ``"stopping"``.
        exitcode: As in ``multiprocessing``: negative for a signal; None while it is not known.
        uptime: Seconds from the start of the process to the failure.
        stack: The Python stack of the worker where it hung, where it could be had.
        started: Whether the task had started; False means that it can be run again at no risk.
        limit: The time limit that was passed, in seconds, where one was.
        story: The worker's transitions, oldest first, as lines of text.
    """

    def __init__(
        self,
        message: str,
        *,
        pid: int | None = None,
        worker_id: int | None = None,
        stage: str | None = None,
        exitcode: int | None = None,
        uptime: float | None = None,
        stack: str | None = None,
        started: bool = False,
        limit: float | None = None,
        story: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.pid = pid
        self.worker_id = worker_id
        self.stage = stage
        self.exitcode = exitcode
        self.uptime = uptime
        self.stack = stack
        self.started = started
        self.limit = limit
        self.story = story

    @property
    def signal(self) -> signal.Signals | int | None:
        """The signal that ended the worker, if one did: a number where it has no name here."""
        if self.exitcode is None or self.exitcode >= 0:
            return None
        try:
            return signal.Signals(-self.exitcode)
        except ValueError:
            return -self.exitcode


class InitializerFailed(WorkerError):
    """A worker raised, died, hung or broke the protocol before it was ready."""


class TemplateFailed(WorkerError):
    """The process that forks a pool's workers (``start_method="template"``) is of no use.

    Its preload raised, died, hung or left threads, or it died or hung later. Its ``stage`` is
    ``"starting"`` (interpreter, import of ``__main__``), ``"preloading"`` or ``"ready"``.
    """


class WorkerDied(WorkerError):
    """A worker ended though nothing had asked it to, or by ``TaskFuture.kill()``."""


class WorkerUnresponsive(WorkerError):
    """A worker missed its heartbeats and was killed."""


class MemoryLimitExceeded(WorkerError):
    """A worker and its descendants grew past ``memory_limit``.

    Attributes:
        limit: That, in bytes.
        used: What they used, in bytes.
    """

    def __init__(self, message: str, *, used: int | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.used = used


class ProtocolError(WorkerError):
    """A worker wrote something that is no message, or closed its channel and lived on."""


class TaskTimeout(WorkerError, TimeoutError):
    """A task ran into its time limit; its worker was killed."""


class SoftTimeout(WarmpoolError):
    """Raised in a task that has reached its ``soft_timeout``, or is to be killed with a grace.

    The task may clean up and return, or let it pass: then it is what the future raises. It is no
    ``TimeoutError``, so that a task which handles those, of its sockets say, does not take it for
    one.

    Attributes:
        limit: The soft time limit, in seconds; None if :meth:`TaskFuture.kill` asked for it, or
            :meth:`WarmPool.terminate_workers`.
        left: Seconds until the worker is killed; None if nothing of that kind is to come.
    """

    def __init__(
        self, message: str, *, limit: float | None = None, left: float | None = None
    ) -> None:
        super().__init__(message)
        self.limit = limit
        self.left = left


class RemoteTraceback(Exception):
    """The traceback of a task in its worker, as text: the cause of what the task raised.

    Attributes:
        tb: The formatted traceback.
    """

    def __init__(self, tb: str) -> None:
        super().__init__(tb)
        self.tb = tb

    def __str__(self) -> str:
        return f'\n"""\n{self.tb}"""'


# Tracebacks and reprs show the name that users import.
for _name in __all__:
    globals()[_name].__module__ = "warmpool"
del _name
