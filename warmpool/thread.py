"""Threads for those who cannot take starting one for granted.

:class:`DaemonThread` is one of which one can find out whether it will ever run.

``Thread.start()`` may be interrupted by a Ctrl-C before the thread exists, or after: nothing about
the object tells. So whoever first takes the one token decides: the thread, that it runs; or who
started it, that it never will and what it was to do at its end is theirs.

:class:`Starter` starts threads for one who may wait for nobody. ``Thread.start()`` takes a lock of
the interpreter's; who has that may be interrupted by a signal handler which waits for us.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
from collections.abc import Callable


class DaemonThread:
    """Runs a function on a daemon thread.

    Args:
        function: What to run.
        name: The thread's.
    """

    def __init__(self, function: Callable[[], None], name: str) -> None:
        self._function = function
        self._token: list[None] = [None]
        self._ident: int | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start it.

        Raises:
            RuntimeError: The system has no thread left.
        """
        self._thread.start()

    def call_off(self) -> bool:
        """See to it that it never runs; False if it does, or did, already. *Threads:* any."""
        try:
            self._token.pop()
        except IndexError:
            return False
        return True

    @property
    def is_current(self) -> bool:
        """Whether it is this thread that asks."""
        return threading.get_ident() == self._ident

    def join(self, timeout: float) -> bool:
        """Wait for its end, in seconds; False if it has not come. *Threads:* others; blocks."""
        if self._thread.is_alive() and not self.is_current:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        if self.call_off():
            self._ident = threading.get_ident()
            # What an application has set for all threads would run between any two lines of ours.
            sys.settrace(None)
            sys.setprofile(None)
            self._function()


class Starter:
    """Starts threads one after the other on a thread of its own.

    Args:
        name: That thread's.
    """

    def __init__(self, name: str) -> None:
        self._threads: queue.SimpleQueue[threading.Thread | None] = queue.SimpleQueue()
        self._thread = DaemonThread(self._run, name)

    def open(self) -> None:
        """Start its own.

        Raises:
            RuntimeError: The system has no thread left.
        """
        self._thread.start()

    def start(self, thread: threading.Thread) -> None:
        """Start a thread soon; not at all, if there is none to be had. *Threads:* any; no block."""
        self._threads.put(thread)

    def close(self) -> None:
        """End after those. *Threads:* any; never blocks."""
        self._threads.put(None)

    def join(self, timeout: float) -> None:
        """Wait for the end, in seconds. *Threads:* others; blocks."""
        self._thread.join(timeout)

    def _run(self) -> None:
        while (thread := self._threads.get()) is not None:
            with contextlib.suppress(RuntimeError):  # Whoever wants it asks again.
                thread.start()
            del thread
