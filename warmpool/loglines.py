"""What is logged: one line for each failure. Called where handlers may run (I2)."""

from __future__ import annotations

from warmpool.callbacks import logger
from warmpool.errors import WarmpoolError


def log_failure(pool: str, error: WarmpoolError, consequence: str) -> None:
    """A worker failed to get, or to stay, warm."""
    cause = error.__cause__
    text = f"; cause: {cause}" if cause is not None else ""
    logger.warning("pool %r: %s; %s%s", pool, error, consequence, text)


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
