"""A worker's log records on their way to the host, over the worker's own channel.

No pipe or queue is shared between workers (I8): one that is killed costs its own last records.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager

_FIELDS = (
    "name",
    "levelno",
    "levelname",
    "pathname",
    "filename",
    "module",
    "lineno",
    "funcName",
    "created",
    "msecs",
    "relativeCreated",
    "thread",
    "threadName",
    "processName",
    "process",
    "exc_text",
    "stack_info",
)
_LONGEST_TEXT = 1 << 16
"""Characters of a message, and of a traceback, that are sent."""


class Forwarder(logging.Handler):
    """Sends each record as JSON, its message formatted.

    Args:
        level: Below it, records stay where they are.
        send: Sends a record's bytes. *Threads:* any; blocks while the host does not read.
        uninterrupted: Within it, no soft limit is raised in this thread: a message must not be
            broken off in the middle.
    """

    def __init__(
        self,
        level: int,
        send: Callable[[bytes], None],
        uninterrupted: Callable[[], AbstractContextManager[None]],
    ) -> None:
        super().__init__(level)
        self._send = send
        self._uninterrupted = uninterrupted
        self._owner = os.getpid()

    def install(self) -> None:
        """Be the one handler of this process: under ``fork`` it has inherited the host's."""
        root = logging.getLogger()
        # A logger's own handlers would handle here what is handled in the host again, by the same.
        for logger in list(root.manager.loggerDict.values()):
            if isinstance(logger, logging.Logger):
                logger.handlers.clear()
                logger.propagate = True
        root.handlers[:] = [self]
        root.setLevel(self.level)

    def emit(self, record: logging.LogRecord) -> None:
        if os.getpid() != self._owner:
            return  # A fork of the worker has a copy of its channel, which is not its own.
        # All of it: a soft limit in here would be taken for an error in a record.
        with self._uninterrupted():
            try:
                body = _encode(record)
            except Exception:
                self.handleError(record)  # A wrong format, say. Told of on standard error.
            else:
                self._send(body)


_tracebacks = logging.Formatter()


def _encode(record: logging.LogRecord) -> bytes:
    fields = {name: getattr(record, name, None) for name in _FIELDS}
    fields["msg"] = record.getMessage()[:_LONGEST_TEXT]
    if record.exc_info and not record.exc_text:
        fields["exc_text"] = _tracebacks.formatException(record.exc_info)
    if fields["exc_text"] is not None:
        fields["exc_text"] = fields["exc_text"][-_LONGEST_TEXT:]
    return json.dumps(fields).encode()
