"""How a pool ends, as its user asks for it."""

from __future__ import annotations

from types import TracebackType
from typing import Literal

from warmpool import config, lifetime
from warmpool.desk import Desk
from warmpool.ending import ABANDON_AFTER
from warmpool.state import Settings
from warmpool.views import Submitting


class Closable(Submitting):
    """The part of a pool that ends it."""

    _desk: Desk
    _settings: Settings

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks, finish what was taken, then end.

        As long as a task runs, so does the pool: tasks without a limit make this wait without
        one. :meth:`close` does not.

        Args:
            wait: Return when all is over. Else at once.
            cancel_futures: Cancel what has not started.

        *Threads:* any, callbacks and signal handlers included; blocks if it is to wait. In a
        callback it does not wait for the callback's own thread.
        """
        lifetime.let_finish(self._desk)
        self._desk.shutdown(cancel_queued=cancel_futures)
        if wait:
            self._desk.wait_ended(None)

    def close(self, timeout: float | None = None) -> None:
        """End within a deadline, whatever the workers do.

        Waiting tasks fail with :class:`~warmpool.PoolClosed` at once. Running ones have ``grace``
        to finish; then SIGKILL. Calling it again, or from several threads, does no harm; the
        earliest deadline counts.

        Args:
            timeout: Seconds for all of it, the killing included; None: ``grace``, and what SIGKILL
                takes.

        *Threads:* any, callbacks and signal handlers included; blocks, but not past the deadline.
        """
        config.check_duration("timeout", timeout, optional=True, zero=True)
        self._desk.close(timeout)
        bound = self._settings.grace + 2 * ABANDON_AFTER if timeout is None else timeout
        self._desk.wait_ended(bound)

    def terminate_workers(self) -> None:
        """As of ``ProcessPoolExecutor`` in Python 3.14: end, and have running tasks end.

        Waiting tasks are cancelled. In running ones :class:`~warmpool.SoftTimeout` is raised, and
        they have ``grace`` to clean up; then SIGKILL, and their futures fail with
        :class:`~warmpool.PoolClosed`.

        *Threads:* any, callbacks and signal handlers included; does not block.
        """
        self._desk.shutdown(cancel_queued=True)
        self._desk.close(None, interrupts=True)

    def kill_workers(self) -> None:
        """As of ``ProcessPoolExecutor`` in Python 3.14: end, and SIGKILL to all workers.

        Waiting tasks are cancelled, running ones fail with :class:`~warmpool.PoolClosed`.

        *Threads:* any, callbacks and signal handlers included; does not block.
        """
        self._desk.shutdown(cancel_queued=True)
        self._desk.close(0.0)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> Literal[False]:
        """Leave: :meth:`shutdown`; after an exception, :meth:`close`."""
        if exc_type is None:
            self.shutdown(wait=True)
        else:
            self.close()
        return False
