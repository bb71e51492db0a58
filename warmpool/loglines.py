"""What is logged: one line for each failure, those that repeat folded.

Called where handlers may run (I2). Each record has the attributes ``pool``, ``worker`` and
``task``, for formatters and filters.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from logging import WARNING
from typing import Any

from warmpool.callbacks import logger
from warmpool.errors import WarmpoolError
from warmpool.events import ReportMemory, ReportSilence
from warmpool.failures import size_text

ALL_OF = 3
"""So many lines that differ in numbers only are logged; then those whose count is a power of 2."""
QUIET = 60.0
"""Seconds without one more after which they are counted from one again: a worker that dies once
an hour is told of each time."""
_MOST_KINDS = 64


@dataclass
class _Run:
    count: int
    last: float


class LogLines:
    """Logs for one pool.

    Args:
        pool: Its name.
        clock: Of seconds.
    """

    def __init__(self, pool: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._runs: dict[str, _Run] = {}

    def failure(self, error: WarmpoolError, consequence: str, level: int = WARNING) -> None:
        """A worker failed to get, or to stay, warm."""
        cause = error.__cause__
        is_told = cause is None or any(words in str(error) for words in (repr(cause), str(cause)))
        text = "" if is_told else f"; cause: {cause}"
        worker = getattr(error, "worker_id", None)
        count = self._count(f"{type(error).__name__} {error!s}{text}")
        if count > ALL_OF and count & (count - 1):
            return
        folded = ""
        if count > ALL_OF:
            folded = f" (the {count}th like it; those since the last one told of are not logged)"
        logger.log(
            level,
            "pool %r: %s; %s%s%s",
            self._pool,
            error,
            consequence,
            text,
            folded,
            extra=self._facts(worker),
        )

    def _count(self, text: str) -> int:
        # Numbers differ, of the worker, its process and its age; and so do addresses.
        key = re.sub(r"0x[0-9a-f]+|[0-9.]+(e-?\d+)?", "#", text)
        now = self._clock()
        if len(self._runs) >= _MOST_KINDS and key not in self._runs:
            self._runs.clear()
        run = self._runs.setdefault(key, _Run(0, now))
        run.count = run.count + 1 if now < run.last + QUIET else 1
        run.last = now
        return run.count

    def silence(self, report: ReportSilence) -> None:
        """A worker has not beaten for a while."""
        task = "" if report.task is None else f" with task {report.task}"
        logger.warning(
            "pool %r: worker %d (pid %s), %s%s, has not beaten for %.3g s: it is stopped, swapped "
            "out, or foreign code holds its interpreter's lock; past %g s (heartbeat_timeout) it "
            "is killed",
            self._pool,
            report.worker,
            report.pid,
            report.stage,
            task,
            report.seconds,
            report.limit,
            extra=self._facts(report.worker, report.task),
        )

    def memory(self, report: ReportMemory) -> None:
        """A worker is large."""
        task = "" if report.task is None else f" with {report.task}"
        logger.warning(
            "pool %r: worker %d (pid %s), %s%s, uses %s with its descendants, more than %s%s",
            self._pool,
            report.worker,
            report.pid,
            report.stage,
            task,
            size_text(report.used),
            size_text(report.limit),
            "; it is replaced" if report.is_limit else " (memory_warning)",
            extra=self._facts(report.worker, report.task),
        )

    def abandoned(self, worker: int) -> None:
        """A worker could not be killed."""
        logger.error(
            "pool %r: worker %d outlived SIGKILL (an uninterruptible system call?) and is left "
            "behind",
            self._pool,
            worker,
            extra=self._facts(worker),
        )

    def given_up(self, worker: int) -> None:
        """A worker was killed for what a thread of the host did."""
        logger.warning(
            "pool %r: worker %d is killed: a thread of this program is stopped in the middle of "
            "sending it a task, which then runs elsewhere, or of reading its answer, which is lost",
            self._pool,
            worker,
            extra=self._facts(worker),
        )

    def collapse(self, error: BaseException) -> None:
        """A bug of ours."""
        logger.critical(
            "pool %r has ended by an internal error, please report it",
            self._pool,
            exc_info=error,
            extra=self._facts(None),
        )

    def _facts(self, worker: int | None, task: Any = None) -> dict[str, Any]:
        return {"pool": self._pool, "worker": worker, "task": task}
