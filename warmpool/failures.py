"""From the core's plain facts to the exceptions that callers catch."""

from __future__ import annotations

import signal
from typing import Any

from warmpool import errors, payload, stacks
from warmpool.events import Failure, FailureKind

Kind = FailureKind

MAIN_HINT = (
    " (its traceback is on standard error; does the main module make the pool under if "
    "__name__ == '__main__':, and can it be imported?)"
)
"""What to say of an interpreter that exits with 1 before it has said anything."""


def to_error(failure: Failure, pool: str) -> errors.WarmpoolError:
    """Make the exception of a failure, its cause attached."""
    error = _make(failure, pool)
    if failure.cause is not None:
        error.__cause__ = to_error(failure.cause, pool)
    elif isinstance(failure.remote, BaseException):
        error.__cause__ = failure.remote
    elif failure.remote is not None:
        # An initializer's exception: nothing of the user's is unpickled on the supervisor's
        # thread (I2), so its text has to do.
        error.__cause__ = errors.RemoteTraceback(payload.error_text(failure.remote))
    return error


def _make(failure: Failure, pool: str) -> errors.WarmpoolError:
    kind = failure.kind
    if kind is Kind.POOL_CLOSED:
        when = "before the task started"
        if failure.worker is not None:
            when = "while the task ran, and its grace has passed"
        return errors.PoolClosed(f"pool {pool!r} was closed {when}")
    if kind is Kind.POOL_SATURATED:
        limit = None if failure.limit is None else int(failure.limit)
        return errors.PoolSaturated(
            f"pool {pool!r} has {limit} tasks waiting, which is its max_queue: slow down, retry "
            "later, or raise max_queue or max_workers",
            max_queue=limit,
        )
    if kind is Kind.QUEUE_TIMEOUT:
        return errors.QueueTimeout(
            f"no worker of pool {pool!r} took the task within queue_timeout={failure.limit} s: the "
            "pool is too small for its load, or its workers are not warm (see pool.health)",
            limit=failure.limit,
        )
    if kind is Kind.POOL_BROKEN:
        cause = "" if failure.cause is None else f" Last cause: {_describe(failure.cause)}."
        return errors.PoolBroken(
            f"the workers of pool {pool!r} keep failing to get warm.{cause} It goes on probing and "
            "takes tasks again once one gets warm"
        )
    kind_of_error = _WORKER_ERRORS[kind]
    if kind is Kind.DIED and failure.stage in ("starting", "initializing"):
        kind_of_error = errors.InitializerFailed
    if kind is Kind.BROKE_PROTOCOL and failure.stage in ("starting", "initializing"):
        kind_of_error = errors.InitializerFailed
    facts = _facts(failure)
    if isinstance(failure.remote, errors.WorkerError):
        facts |= {"stage": failure.remote.stage, "stack": failure.remote.stack}
    if kind is Kind.OUT_OF_MEMORY:
        facts["used"] = failure.used
    return kind_of_error(_describe(failure), **facts)


_WORKER_ERRORS: dict[FailureKind, type[errors.WorkerError]] = {
    Kind.START_FAILED: errors.InitializerFailed,
    Kind.INITIALIZER_RAISED: errors.InitializerFailed,
    Kind.INITIALIZER_TIMEOUT: errors.InitializerFailed,
    Kind.DIED: errors.WorkerDied,
    Kind.KILL_REQUESTED: errors.WorkerDied,
    Kind.BROKE_PROTOCOL: errors.ProtocolError,
    Kind.TASK_TIMEOUT: errors.TaskTimeout,
    Kind.UNRESPONSIVE: errors.WorkerUnresponsive,
    Kind.OUT_OF_MEMORY: errors.MemoryLimitExceeded,
}


def _facts(failure: Failure) -> dict[str, Any]:
    return {
        "pid": failure.pid,
        "worker_id": failure.worker,
        "stage": failure.stage,
        "exitcode": failure.exitcode,
        "uptime": failure.uptime,
        "stack": None if failure.stack is None else stacks.tidy(failure.stack),
        "started": failure.started,
        "limit": failure.limit,
        "story": failure.story,
    }


def _describe(failure: Failure) -> str:
    worker = f"worker {failure.worker}"
    if failure.pid is not None:
        worker += f" (pid {failure.pid})"
    stage = _STAGES.get(failure.stage or "", failure.stage or "unknown stage")
    up = "" if failure.uptime is None else f", {failure.uptime:.3g} s after the worker's start"
    match failure.kind:
        case Kind.START_FAILED:
            why = failure.remote
            text = f"{why}" if isinstance(why, errors.WarmpoolError) else f"{why!r}"
            return f"{worker} could not be started: {text}"
        case Kind.INITIALIZER_RAISED:
            what = payload.error_note(failure.remote) or "the initializer raised"
            return f"{what} in {worker}: {payload.error_summary(failure.remote)}"
        case Kind.INITIALIZER_TIMEOUT:
            return (
                f"{worker} was not ready within init_timeout={failure.limit} s, it was {stage}"
                f"{_place(failure)}; it was killed. Raise init_timeout if the warm-up needs longer"
            )
        case Kind.TASK_TIMEOUT:
            began = "" if failure.started else " (the worker never started it)"
            return (
                f"the task ran into its limit of {failure.limit} s{began}{_place(failure)}; "
                f"{worker} was killed"
            )
        case Kind.UNRESPONSIVE:
            return (
                f"{worker} did not beat for {failure.silent or 0.0:.3g} s while {stage} "
                f"(heartbeat_timeout={failure.limit} s){_place(failure)}; it was killed. It was "
                "stopped, swapped out, or foreign code held its interpreter's lock"
            )
        case Kind.OUT_OF_MEMORY:
            return (
                f"{failure.task or 'the initializer'} was killed: {worker} used "
                f"{size_text(failure.used or 0)} with its descendants, more than "
                f"memory_limit={size_text(int(failure.limit or 0))}{_place(failure)}"
            )
        case Kind.KILL_REQUESTED:
            if failure.worker is None:
                return "the task was killed by TaskFuture.kill() while it waited for another run"
            return f"the task was killed by TaskFuture.kill(), and {worker} with it"
        case Kind.BROKE_PROTOCOL:
            return (
                f"{worker} broke the protocol while {stage}{up}: it {failure.detail}; it was killed"
            )
    began = "" if failure.started or failure.stage != "busy" else "; its task had not started"
    exit_ = exit_text(failure.exitcode, failure.detail)
    guard = MAIN_HINT if failure.stage == "starting" and failure.exitcode == 1 else ""
    return f"{worker} died while {stage}{up}{_place(failure)}: {exit_}{guard}{began}"


def _place(failure: Failure) -> str:
    """Where it was, if that is known."""
    place = None if failure.stack is None else stacks.where(failure.stack)
    return "" if place is None else f", in {place}"


_STAGES = {
    "starting": "starting (interpreter, imports of __main__)",
    "initializing": "running the initializer",
    "idle": "idle",
    "busy": "running a task",
    "stopping": "stopping",
}


def size_text(bytes_: int) -> str:
    """A number of bytes in words."""
    size, units = float(bytes_), iter(("bytes", "KiB", "MiB", "GiB"))
    unit = next(units)
    while size >= 1024 and (larger := next(units, None)) is not None:
        size, unit = size / 1024, larger
    return f"{size:.4g} {unit}"


def exit_text(exitcode: int | None, certain: str | None = None) -> str:
    """An exit status in words; ``certain`` says by whom, if that is known."""
    if exitcode is None:
        return "its exit status is unknown, somebody else collected it"
    if exitcode >= 0:
        return f"it exited with code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    if certain is not None:
        return f"it was killed by {name}, {certain}"
    hint = " (if nobody here sent it: the kernel's out-of-memory killer?)" if exitcode == -9 else ""
    return f"it was killed by {name}{hint}"


def not_pickled(error: Exception, pickler: str) -> errors.PayloadError:
    """What a task that cannot be pickled fails of.

    Args:
        error: Why not.
        pickler: The name of the pool's pickler.
    """
    if "through inheritance" in str(error):  # A queue's, or a lock's, own words.
        advice = "Pass it in the pool's initargs, or pass what a multiprocessing.Manager() makes"
    elif pickler == "cloudpickle":
        advice = "Pass what it is made of, and make it in the task"
    else:
        advice = (
            "Pass functions and classes that can be imported, or use pickler='cloudpickle', which "
            "knows lambdas and local ones, too"
        )
    failure = errors.PayloadError(
        f"the task's function or arguments could not be pickled: {type(error).__name__}: {error}. "
        f"{advice}"
    )
    failure.__cause__ = error
    return failure
