"""Has workers' memory read where that may block."""

from __future__ import annotations

from collections.abc import Callable

from warmpool.callbacks import CallbackRunner
from warmpool.thread import Starter


class Sampler:
    """Reads memory off the supervisor's thread.

    One thread reads of one worker after the other. One that is stuck in that is left alone with its
    thread, and another takes over the rest.

    Args:
        name: The pool's.
        limit: Bytes past which it has to be exact.
        starter: Starts threads.
        report: Given a worker and the bytes that it uses, None if they cannot be read. Must not
            block.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        starter: Starter,
        report: Callable[[int, int | None], None],
    ) -> None:
        self._limit = limit
        self._report = report
        self._runner = CallbackRunner(f"{name}-memory", starter)
        self.has_none = self._runner.has_none

    def ask(self, worker: int, pid: int) -> None:
        """Have it read; the report comes later. *Threads:* the supervisor's; never blocks."""
        self._runner.put(self._read, worker, pid)

    def _read(self, worker: int, pid: int) -> None:
        # Not before it is needed: it takes a while to import.
        from warmpool import memory

        used = None
        try:
            used = memory.used_by(pid, self._limit)
        finally:
            self._report(worker, used)

    def relieve(self, now: float) -> float | None:
        """See to it that somebody reads; when to ask again (monotonic), or None."""
        return self._runner.relieve(now)

    def close(self) -> None:
        """End after what is asked for. *Threads:* one; never blocks."""
        self._runner.close()

    def join(self, timeout: float) -> None:
        """Wait for the threads' ends, in seconds. *Threads:* any; blocks."""
        self._runner.join(timeout)
