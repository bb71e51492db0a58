"""What ``ps`` and ``top`` show of a worker: its pool, its number, and what it is doing.

Set by the worker's control thread, as it beats: to set it for each task would cost a warm round
trip a twentieth, and what lasts shorter than a heartbeat nobody gets to see.
"""

from __future__ import annotations

import contextlib
import importlib


class Title:
    """The title of this process. *Threads:* one, but for the attributes.

    Args:
        prefix: The beginning, which stays.

    Attributes:
        stage: What it is doing, while it has no task.
        task: The number of the task that it has, 0 for none.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._shown = ""
        self.stage = "initializing"
        self.task = 0

    def show(self) -> None:
        """Show what it is doing at this moment."""
        task = self.task
        text = f"{self._prefix} [{f'busy {task}' if task else self.stage}]"
        if text != self._shown:
            self._shown = text
            # Not imported before the first heartbeat: it takes as long as a worker takes to start.
            # An application may have made it impossible (a changed path); who beats must go on.
            with contextlib.suppress(ImportError):
                importlib.import_module("setproctitle").setproctitle(text)
