"""Soft limits, in the worker: how a task is asked to end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

from warmpool.errors import SoftTimeout
from warmpool.recorder import INTERRUPT_SIGNAL, Recorder
from warmpool.title import Title


class Interruptions:
    """Raises :class:`~warmpool.SoftTimeout` in a task whose time has come.

    By a signal, so that system calls that block are interrupted too; in the main thread, where
    tasks run; and nowhere but in the function of the task: what is raised in this module's own code
    would cost the worker.

    Args:
        recorder: Says which task is meant.
        title: Is told of each task.
    """

    def __init__(self, recorder: Recorder, title: Title) -> None:
        self._recorder = recorder
        self._title = title
        self._running = 0
        self._early = 0
        # Invariant: the task that was meant by a signal which came while none ran.
        signal.signal(INTERRUPT_SIGNAL, self._on_signal)

    def call(
        self, task: int, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a task's function, interruptibly."""
        try:
            self._title.task = self._running = task
            if self._early == task:
                self._raise()
            return function(*args, **kwargs)
        finally:
            # A signal in between raises here, which is still within the caller's try; once only.
            self._running = 0
            self._title.task = 0

    @contextlib.contextmanager
    def held_off(self) -> Iterator[None]:
        """Do not raise in here, but after it."""
        running = 0
        if threading.current_thread() is threading.main_thread():
            running, self._running = self._running, 0
        try:
            yield
        finally:
            if running:
                self._running = running
                if self._recorder.interrupted == running:
                    self._raise()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        meant = self._recorder.interrupted
        if self._running:
            if self._running == meant:
                self._raise()
        else:
            self._early = meant

    def _raise(self) -> NoReturn:
        self._recorder.note_raised(self._running)
        self._running = 0
        limit, left = self._recorder.interruption
        if limit is None:
            reason = "its owner wants the task to end"
        else:
            reason = f"the task has reached its soft_timeout of {limit:g} s"
        end = "" if left is None else f"; it is killed in {left:.3g} s"
        raise SoftTimeout(f"{reason}: clean up and return{end}", limit=limit, left=left)
