"""What reaches the loop of ``warmpool map`` from elsewhere: other threads, signals, the pool's log.

All of it makes one descriptor readable, and so ends the loop's ``poll``.
"""

from __future__ import annotations

import logging
import os
import re
import select
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import FrameType
from typing import Any

_MOST_MESSAGES = 20


class News:
    """A descriptor that becomes readable when something has happened.

    Attributes:
        fd: The descriptor to poll.
        signal: The signal that was noted, None if none was.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)
        self._lock = threading.Lock()
        self._closed = False
        self._raising = False
        self._messages: deque[str] = deque()

    def wake(self, _future: Future[Any] | None = None) -> None:
        """Make `fd` readable; fits as a done-callback. *Threads:* any."""
        # A pool thread may call this while, or after, the loop's thread closes the pipe. Without
        # the lock the byte could land in whatever has got the number of the descriptor since.
        with self._lock:
            if self._closed:
                return
            try:
                os.write(self._write_fd, b"\0")
            except BlockingIOError:  # full: it is readable already, which is all that was wanted
                return

    def tell(self, message: str) -> None:
        """Leave a message for the user. *Threads:* any."""
        self._messages.append(message)
        self.wake()

    def take_messages(self) -> list[str]:
        """Return the messages since the last call."""
        return [self._messages.popleft() for _ in range(len(self._messages))]

    def clear(self) -> None:
        """Make `fd` unreadable until the next `wake`. Call it only when it is readable."""
        os.read(self.fd, select.PIPE_BUF)

    def close(self) -> None:
        """Close both ends."""
        with self._lock:
            self._closed = True
            os.close(self.fd)
            os.close(self._write_fd)

    @contextmanager
    def noting_signals(self) -> Iterator[None]:
        """Note SIGINT and SIGTERM, instead of raising or dying.

        A handler that raised could hit the pool in the middle of a submit. After the first signal
        the second kills the process: whatever hangs, Ctrl-C twice ends it.
        """

        def note(signum: int, _frame: FrameType | None) -> None:
            self.signal = signum
            for each in before:
                signal.signal(each, signal.SIG_DFL)
            if self._raising:
                raise KeyboardInterrupt

        # What is ignored stays so: nohup, and a shell's background job, mean it.
        before = {
            each: action
            for each in (signal.SIGINT, signal.SIGTERM)
            if (action := signal.getsignal(each)) is not signal.SIG_IGN
        }
        # The kernel may give the signal to any thread. Then it interrupts no poll in this one, and
        # Python would run the handler after it: only the byte that C code writes ends the poll.
        wakeup_before = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for each in before:
            signal.signal(each, note)
        try:
            yield
        finally:
            for each, action in before.items():
                signal.signal(each, action)
            signal.set_wakeup_fd(wakeup_before)

    @contextmanager
    def raising_too(self) -> Iterator[None]:
        """While signals are noted, raise KeyboardInterrupt as well, for code that may hang."""
        self._raising = True
        try:
            yield
        finally:
            self._raising = False
        # Python drops what is raised in a finalizer or a weakref's callback, and importlib uses
        # such callbacks: the interrupt may have got lost.
        if self.signal is not None:
            raise KeyboardInterrupt

    @contextmanager
    def noting_log(self) -> Iterator[None]:
        """Note what the pool logs, for who watches the run: briefly, and nothing twice."""
        handler = _LogHandler(self)
        logger = logging.getLogger("warmpool")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)


class _LogHandler(logging.Handler):
    """Takes the first line of each record, and drops what repeats an earlier one.

    A pool that cannot get warm says so at every try. Only numbers differ, of the worker and of its
    process, and what follows from the failure.
    """

    def __init__(self, news: News) -> None:
        super().__init__(logging.WARNING)
        self._news = news
        self._seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        first_line = record.getMessage().partition("\n")[0].removesuffix("; cause: ")
        key = re.sub(r"\d+", "#", first_line.partition(";")[0])
        if key not in self._seen and len(self._seen) < _MOST_MESSAGES:
            self._seen.add(key)
            self._news.tell(first_line)
