"""What a future knows of the pool that it belongs to."""

from __future__ import annotations

from typing import Protocol

from warmpool.parker import Parkers


class TaskControl(Protocol):
    """What a future asks of its supervisor. No call blocks, but for :meth:`withdraw`."""

    parkers: Parkers
    """For those who wait."""
    is_foreign: bool
    """Whether the supervisor is in another process, of which this one is a fork."""

    def cancelled(self, task: int) -> None:
        """The future is cancelled: forget the task."""

    def withdraw(self, task: int) -> None:
        """Cancel the task if it lies in a worker's tray. Blocks until that is decided."""

    def kill(self, task: int, grace: float | None) -> None:
        """Kill the worker that runs the task, or drop it from the queue."""
