"""What is logged: one line for each failure. Called where handlers may run (I2)."""

from __future__ import annotations

from warmpool.callbacks import logger
from warmpool.errors import WarmpoolError
from warmpool.events import ReportMemory, ReportSilence
from warmpool.failures import size_text


def log_failure(pool: str, error: WarmpoolError, consequence: str) -> None:
    """A worker failed to get, or to stay, warm."""
    cause = error.__cause__
    text = f"; cause: {cause}" if cause is not None else ""
    logger.warning("pool %r: %s; %s%s", pool, error, consequence, text)


def log_silence(pool: str, silence: ReportSilence) -> None:
    """A worker has not beaten for a while."""
    task = "" if silence.task is None else f" with task {silence.task}"
    logger.warning(
        "pool %r: worker %d (pid %s), %s%s, has not beaten for %.3g s: it is stopped, swapped out, "
        "or foreign code holds its interpreter's lock; past %g s (heartbeat_timeout) it is killed",
        pool,
        silence.worker,
        silence.pid,
        silence.stage,
        task,
        silence.seconds,
        silence.limit,
    )


def log_memory(pool: str, report: ReportMemory) -> None:
    """A worker is large."""
    task = "" if report.task is None else f" with {report.task}"
    logger.warning(
        "pool %r: worker %d (pid %s), %s%s, uses %s with its descendants, more than %s%s",
        pool,
        report.worker,
        report.pid,
        report.stage,
        task,
        size_text(report.used),
        size_text(report.limit),
        "; it is replaced" if report.is_limit else " (memory_warning)",
    )


def log_abandoned(pool: str, worker: int) -> None:
    """A worker could not be killed."""
    logger.error(
        "pool %r: worker %d outlived SIGKILL (an uninterruptible system call?) and is left behind",
        pool,
        worker,
    )


def log_given_up(pool: str, worker: int) -> None:
    """A worker was killed for what a thread of the host did."""
    logger.warning(
        "pool %r: worker %d is killed: the thread that took it for a task is stopped half way; the "
        "task runs elsewhere",
        pool,
        worker,
    )


def log_collapse(pool: str, error: BaseException) -> None:
    """A bug of ours."""
    logger.critical(
        "pool %r has ended by an internal error, please report it", pool, exc_info=error
    )
