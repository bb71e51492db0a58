"""The futures of a pool's unanswered tasks, as the supervisor holds and settles them."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from warmpool import events as ev
from warmpool import wire
from warmpool.announcer import Announcer, announce_waiting
from warmpool.answer import may_wait
from warmpool.callbacks import CallbackRunner
from warmpool.failures import to_error
from warmpool.future import TaskFuture
from warmpool.lease import Submission
from warmpool.parker import Parker, make_way


class Settler:
    """Settles, and sees to it that whoever waits is told. *Threads:* the supervisor's.

    Args:
        pool: The pool's name.
        callbacks: Where user code runs.
        announcer: Tells those who do not wait in ``result()``.
    """

    def __init__(self, pool: str, callbacks: CallbackRunner, announcer: Announcer) -> None:
        self._pool = pool
        self._callbacks = callbacks
        self._announcer = announcer
        self._submissions: dict[int, Submission] = {}
        # Invariant: those that the core has, and has not answered.
        self._to_unpark: list[Parker] = []
        self._has_made_way = False

    def enter(self, submission: Submission) -> None:
        """Hold a task that the core is about to hear of."""
        self._submissions[submission.spec.id] = submission

    def hand_over(self, task: int, pid: int, *, lies: bool = False) -> Submission | None:
        """Note that a worker gets the task; None if its caller has cancelled it.

        Args:
            task: Which.
            pid: The worker's.
            lies: Whether it is laid out for the worker, which has something else to do yet.
        """
        submission, now = self._submissions[task], time.monotonic()
        if submission.future.handed_over(pid, now, lies=lies):
            return submission
        future = self._forget(task)
        future.finish_cancelling(now)
        self._announce(future)
        return None

    def take_back(self, tasks: Iterable[int]) -> None:
        """Note that the worker that was to have them has not begun with them, and never will."""
        for task in tasks:
            # One whose worker was killed may have been answered at once. And one that was sent to
            # an idle worker, and lay in its tray for want of another way, has had its attempt.
            submission = self._submissions.get(task)
            if submission is not None and submission.future.lies:
                submission.future.take_back()

    def settle(self, command: ev.SettleTask) -> None:
        """Give a task its answer."""
        future = self._submissions.pop(command.task).future
        now = time.monotonic()
        if command.started_at is not None:
            future.note_start(command.started_at)
        failure = command.failure
        if failure is not None:
            future.settle_failed(to_error(failure, self._pool), now)
        elif command.outcome is ev.Outcome.RETURNED:
            future.settle_returned(command.payload, now)
        else:
            future.settle_raised(command.payload, now)
        self._announce(future)
        if failure is not None and self._to_unpark:
            # At once: next a line is logged and a worker started, by threads that want the GIL too.
            self._unpark()
            if not self._has_made_way:
                # Once in a turn: beside a thread that computes, each time costs some milliseconds.
                self._has_made_way = True
                make_way()

    def complete(self, answered: list[tuple[TaskFuture[Any], int, bytes]]) -> None:
        """Settle, and tell everybody, where a reader may have been interrupted before it had.

        Each future comes with kind and body of its answer, and is taken off the list: nobody else
        may have it.
        """
        while answered:
            future, kind, body = answered.pop()
            if kind == wire.RETURNED:
                future.settle_returned(body, time.monotonic())
            else:
                future.settle_raised(body, time.monotonic())
            self._announce(future)

    def drop(self, command: ev.DropTask) -> None:
        """Cancel a task for its caller, or after them."""
        future = self._forget(command.task)
        future.drop(time.monotonic())
        self._announce(future)

    def unpark(self) -> None:
        """Wake those whose futures are settled, as the last thing before the supervisor sleeps.

        They find the GIL free, and idle workers on loan.
        """
        self._has_made_way = False
        self._unpark()

    def _unpark(self) -> None:
        for parker in self._to_unpark:
            parker.unpark()
        self._to_unpark.clear()

    def refuse_all(self, left: Iterable[Submission], error: Callable[[], BaseException]) -> None:
        """Answer the tasks that a collapse has left."""
        with contextlib.ExitStack() as each:
            for submission in (*left, *self._submissions.values()):
                each.callback(self.refuse, submission, error)

    def refuse(self, submission: Submission, error: Callable[[], BaseException]) -> None:
        """Answer a task that the core will not. *Threads:* any."""
        future = submission.future
        future.settle_failed(error(), time.monotonic())
        for parker in future.parked():
            parker.unpark()
        if future.has_audience:
            announce = announce_waiting if may_wait() else self._announcer.announce
            announce(future)

    def _forget(self, task: int) -> TaskFuture[Any]:
        return self._submissions.pop(task).future

    def _announce(self, future: TaskFuture[Any]) -> None:
        self._to_unpark.extend(future.parked())
        if future.has_audience:
            self._announcer.announce(future)
        if sys.getrefcount(future) <= _OURS:
            # Nobody else has it: its end runs the finalizers of what its owner has tied to it.
            self._callbacks.put(_let_go, future)


_OURS = 3
"""References to a future that nobody else has, while it is announced: ours, our caller's, and the
one of the function that counts them. (Where CPython borrows some of these, there are fewer.)"""


def _let_go(_future: TaskFuture[Any]) -> None:
    """Called for its argument, which is let go of on the thread that calls it."""
