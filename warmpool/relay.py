"""Workers' log records, handled in the host as if they were its own."""

from __future__ import annotations

import json
import logging
from typing import Any

from warmpool.callbacks import CallbackRunner, logger
from warmpool.thread import Starter

MOST_RECORDS = 10_000
"""Records that may wait for the host's handlers."""


class Relay(CallbackRunner):
    """Hands records to the loggers of their names, on one thread and in order.

    Each has the attributes ``pool``, ``worker`` and ``task``. What the handlers cannot keep up with
    is dropped, and counted in a line of its own.

    Args:
        pool: The pool's name.
        starter: Starts threads.
    """

    def __init__(self, pool: str, starter: Starter) -> None:
        super().__init__(f"{pool}-logs", starter)
        self._pool = pool
        self._dropped = 0

    def pass_on(self, worker: int, task: int, body: bytes | bytearray) -> None:
        """Handle a record soon. *Threads:* the supervisor's; never blocks."""
        if self.waiting >= MOST_RECORDS:
            self._dropped += 1
            return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self.put(self._tell_of_dropped, dropped)
        self.put(self._handle, worker, task, body)

    def relieve(self, now: float) -> None:
        """Nobody takes over from a handler that is slow: records would get out of order."""

    def _tell_of_dropped(self, count: int) -> None:
        logger.warning(
            "pool %r: %d log records of workers were dropped: handlers do not keep up",
            self._pool,
            count,
            extra=self._facts(None, None),
        )

    def _handle(self, worker: int, task: int, body: bytes | bytearray) -> None:
        record = logging.makeLogRecord(
            {**self._decoded(body), **self._facts(worker, task or None), "args": None}
        )
        target = logging.getLogger(record.name)
        if target.isEnabledFor(record.levelno):
            target.handle(record)

    def _facts(self, worker: int | None, task: int | None) -> dict[str, Any]:
        return {"pool": self._pool, "worker": worker, "task": task}

    @staticmethod
    def _decoded(body: bytes | bytearray) -> dict[str, Any]:
        # It is data from a worker (I13), and need not be what a worker of ours would send.
        try:
            fields = json.loads(body)
            if isinstance(fields["name"], str) and isinstance(fields["levelno"], int):
                return dict(fields)
        except (ValueError, KeyError, TypeError, RecursionError):
            pass  # As below.
        text = f"a worker's log record is malformed: {bytes(body[:200])!r}"
        return {"name": logger.name, "levelno": logging.WARNING, "levelname": "WARNING"} | {
            "msg": text
        }
