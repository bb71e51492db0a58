"""What is asked of live workers by signals: to write their stacks, to end their tasks."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from warmpool import events as ev
from warmpool import stacks
from warmpool.loop import Loop
from warmpool.process import WorkerProcess

STACK_POLL, STACK_PATIENCE = 0.001, 0.2
"""Seconds between two looks whether a worker has written its stack, and in all: less than the core
gives it."""
FIRST_RETRY, LONGEST_RETRY = 0.01, 1.0
"""Seconds after which a task is interrupted once more that has not noticed."""


class Asker:
    """Asks, and looks for the answer in the flight recorder. *Threads:* the supervisor's.

    Args:
        loop: For looking again.
        find: Gives a worker that is held, or None.
        handle: Takes an event to the core.
    """

    def __init__(
        self,
        loop: Loop,
        find: Callable[[int], WorkerProcess | None],
        handle: Callable[[ev.Event], None],
    ) -> None:
        self._loop = loop
        self._find = find
        self._handle = handle
        self.interrupted: dict[int, int] = {}
        """The tasks that are being interrupted, by their workers."""

    def take_stack(
        self, worker: int, process: WorkerProcess, task: int | None
    ) -> ev.StackTaken | None:
        """Have a worker write its stack down; the event, or None if it will come."""
        last_started = process.recorder.last_started
        # A stopped worker has to go on for a moment, and must not start its task in that.
        waits = task is not None and task != last_started
        if waits or not process.ask_for_stack():
            return ev.StackTaken(worker, None, last_started)
        self._look_for_stack(worker, "", time.monotonic() + STACK_PATIENCE)
        return None

    def _look_for_stack(self, worker: int, before: str, give_up_at: float) -> None:
        process = self._find(worker)
        if process is None:
            return  # It has died, and its exit has told.
        text, now = process.recorder.stacks(), time.monotonic()
        if not (text and text == before and stacks.looks_complete(text)) and now < give_up_at:
            again = functools.partial(self._look_for_stack, worker, text, give_up_at)
            self._loop.call_at(now + STACK_POLL, again)
            return
        self._handle(ev.StackTaken(worker, text or None, process.recorder.last_started))

    def interrupt(self, process: WorkerProcess, command: ev.InterruptTask) -> None:
        """Raise in a worker's task."""
        self.interrupted[command.worker] = command.task
        process.note_interruption(command.task, command.limit, command.left)
        self._signal_interruption(command.worker, command.task, FIRST_RETRY)

    def _signal_interruption(self, worker: int, task: int, pause: float) -> None:
        process = self._find(worker)
        if process is None or self.interrupted.get(worker) != task:
            return
        if process.recorder.raised == task:
            return
        process.signal_interruption()
        # A signal that comes just before a system call does not interrupt that: Python notes it,
        # and calls the handler when the call has returned, if ever.
        longer = min(2 * pause, LONGEST_RETRY)
        again = functools.partial(self._signal_interruption, worker, task, longer)
        self._loop.call_at(time.monotonic() + pause, again)

    def heard_of(self, worker: int, task: int) -> None:
        """A worker has answered a task."""
        if self.interrupted.get(worker) == task:
            del self.interrupted[worker]

    def forget(self, worker: int) -> None:
        """It is gone."""
        self.interrupted.pop(worker, None)
