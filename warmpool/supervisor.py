"""The thread: readiness becomes events, commands become system calls and hand-offs.

*fd ready or timer → event → core → commands → system calls and hand-offs.*

The invariants, and what enforces each:

I1   One thread owns processes, descriptors and the selector. (The launcher only makes them, and
     hands them over; ``assert`` in :meth:`Supervisor._carry_out`.)
I2   It never runs user code: no callback, no pickling or unpickling of the user's objects, no log
     handler. (``callbacks``, ``future``; tests/test_architecture.py, tests/faults.)
I3   It blocks nowhere but in ``select()``. (``channel``, ``launcher``; tests/faults.)
I4   Death is learnt from a pidfd, never from end of file or the sentinel alone. (``process``.)
I5   After a readable pidfd the exit status is collected at once, or asked for again. (``fleet``.)
I6   A descriptor is forgotten before it is closed. (``fleet``, ``loop``.)
I7   A worker holds only its own ends. (``forkguard``; tests/contract.)
I8   No lock, semaphore, queue or pipe is shared by two workers. (``launcher`` makes all of them.)
I9   A worker is one process, its states go one way. (``lifecycle``; tests/property.)
I10  A waiter gets exactly one answer, and closing answers them all. (``core``; tests/property.)
I11  Live workers ≤ ``max_workers``. (``roster``; tests/property.)
I12  Wake-ups are non-blocking and coalesced, with a lock of their own. (``loop``.)
I13  What a worker sends is data. (``wire``; tests/property.)
I14  All deadlines are monotonic. (The only clock is ``time.monotonic``; test_architecture.)
I15  Signals go to a process that is known to be alive. (``process``.)
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from warmpool import events as ev
from warmpool import forkguard
from warmpool.answer import Answer, may_wait, supervise
from warmpool.callbacks import CallbackRunner, logger
from warmpool.core import Core, Settings
from warmpool.errors import PoolBroken, PoolClosed, WarmpoolError
from warmpool.failures import to_error
from warmpool.fleet import Fleet, Launched
from warmpool.future import TaskFuture
from warmpool.launcher import Launcher
from warmpool.loop import Loop
from warmpool.process import WorkerProcess
from warmpool.settling import Settler, settle_waiting

JOIN_PATIENCE = 1.0
"""Seconds that the end waits for each helper thread, which by then has nothing left to do."""

LauncherMaker = Callable[[Callable[[int, "WorkerProcess | BaseException"], None]], Launcher]


class Supervisor:
    """The pool's one thread, and how other threads talk to it.

    Args:
        name: The pool's.
        settings: For the core.
        launcher: Makes the launcher, given where it reports.
        initializer: The body of every worker's first message.
    """

    def __init__(
        self, name: str, settings: Settings, launcher: LauncherMaker, initializer: bytes
    ) -> None:
        self.name = name
        self.health = ev.Health.WARMING
        self.last_failure: ev.Failure | None = None
        self.is_foreign = False
        self._owner = os.getpid()
        self._core = Core(settings, random.Random().random)
        self._loop = Loop()
        self._fleet = Fleet(self._loop, launcher, initializer, self._handle, self._post)
        self._callbacks = CallbackRunner(f"{name}-callbacks")
        self._settler = Settler(self._loop, self._callbacks, name)
        self._inbox: deque[ev.Event | Launched | Callable[[], None]] = deque()
        self._follow_ups: deque[ev.Event] = deque()
        self._futures: dict[int, TaskFuture[Any]] = {}
        self._payloads: dict[int, Any] = {}
        self._waiters: dict[int, Answer] = {}
        self._waiter_numbers = itertools.count(1)
        self._enders: deque[Answer] = deque()
        self._over = False
        # Invariant: once True, the thread does nothing more but return.
        self._ended = False
        # Invariant: once True, nobody reads the inbox but _reject(), on any thread.
        self._collapse: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"{name}-supervisor", daemon=True)
        forkguard.enroll(self)

    # ------------------------------------------------------------------ for other threads

    def open(self) -> None:
        """Start the threads and, with them, the workers.

        Raises:
            RuntimeError: The system has no thread left.
        """
        try:
            # First: it may copy the host, which is better done without threads of ours.
            self._fleet.open()
            self._callbacks.open()
            self._thread.start()
        except BaseException:
            self._fleet.close()
            self._callbacks.close()
            self._loop.close()
            raise

    @property
    def has_ended(self) -> bool:
        """Whether the thread is done, or is another process's."""
        return self.is_foreign or self._over

    def last_error(self) -> WarmpoolError | None:
        """Why the last worker failed that did."""
        failure = self.last_failure
        return None if failure is None else to_error(failure, self.name)

    def submit(self, spec: ev.TaskSpec, future: TaskFuture[Any], payload: Any) -> None:
        """Hand a task over. *Threads:* any; never blocks."""
        self._futures[spec.id] = future
        self._payloads[spec.id] = payload
        self._post(ev.TaskSubmitted(spec))

    def admit(self, spec: ev.TaskSpec, future: TaskFuture[Any], payload: Any) -> None:
        """As :meth:`submit`, but wait until the core has taken or refused it."""
        self.submit(spec, future, payload)
        seen = Answer()
        self._post(seen.give)
        self._await(seen, None)

    def cancelled(self, task: int) -> None:
        """See :class:`~warmpool.future.TaskControl`."""
        self._post(ev.TaskCancelled(task))

    def kill(self, task: int) -> None:
        """See :class:`~warmpool.future.TaskControl`."""
        self._post(ev.TaskKillRequested(task))

    def wait_warm(self, timeout: float | None) -> bool:
        """Wait until every slot is warm; False if the timeout, in seconds, passes before.

        Raises:
            WarmpoolError: It cannot get warm. *Threads:* any; blocks.
        """
        answer = Answer()
        waiter = next(self._waiter_numbers)
        self._waiters[waiter] = answer
        try:
            self._post(ev.WarmAwaited(waiter))
            if not self._await(answer, timeout):
                return False
        finally:
            # Still there: it timed out, or was interrupted.
            if self._waiters.pop(waiter, None) is not None:
                self._post(ev.WarmAbandoned(waiter))
        if answer.error is not None:
            raise answer.error
        return True

    def census(self) -> ev.Census:
        """Count what there is, at one instant. *Threads:* any; blocks shortly."""
        if threading.get_ident() == self._thread.ident:
            return self._core.census()  # A finalizer that the garbage collector runs here.
        counted: list[ev.Census] = []
        answer = Answer()

        def count() -> None:
            counted.append(self._core.census())
            answer.give()

        self._post(count)
        self._await(answer, None)
        return counted[0] if counted else self._core.census()

    def shutdown(self, *, cancel_queued: bool) -> None:
        """Begin to finish. *Threads:* any, also a finalizer's; never blocks."""
        self._post(ev.ShutdownRequested(cancel_queued))

    def close(self, timeout: float | None) -> None:
        """Begin to end within the timeout, in seconds. *Threads:* any; never blocks."""
        self._post(ev.CloseRequested(timeout))

    def wait_ended(self, timeout: float | None) -> bool:
        """Wait for the end, in seconds; False if it has not come. *Threads:* any; blocks."""
        if self.is_foreign:
            return True
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        # Not by Thread.join(): interrupted by Ctrl-C, it takes the thread for dead from then on
        # (CPython before 3.13).
        ender = Answer()
        self._enders.append(ender)
        if self._over:
            self._release_enders()
        if not self._await(ender, timeout):
            return False
        for helpers in (self._thread, self._fleet, self._callbacks):
            helpers.join(min(JOIN_PATIENCE, max(0.0, deadline - time.monotonic())))
        return True

    def _release_enders(self) -> None:
        while self._enders:
            try:
                ender = self._enders.popleft()
            except IndexError:
                return  # Two threads are at it.
            ender.give()

    def close_after_fork(self) -> None:
        """See :mod:`warmpool.forkguard`."""
        self.is_foreign = True
        self._loop.close_after_fork()

    def _post(self, item: ev.Event | Launched | Callable[[], None]) -> None:
        # No lock: a signal handler or a finalizer may interrupt any line of this and do the same.
        # Appending is atomic. Whoever sees that the end was faster answers the item themselves;
        # whoever does not was seen by _finish(), which looks once more after setting _ended.
        if self.is_foreign:
            return
        self._inbox.append(item)
        if self._ended:
            self._reject()
        else:
            self._loop.wake()

    def _await(self, answer: Answer, timeout: float | None) -> bool:
        return not self.is_foreign and may_wait() and answer.wait(timeout)

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        supervise()
        try:
            self._carry_out(self._core.open(time.monotonic()))
            while not self._ended:
                self._turn()
        except BaseException as error:
            # The safety net. This branch should never run: it means a bug in warmpool. The host
            # lives on, every waiter is answered, every worker killed.
            self._collapse = error
            self.health = ev.Health.BROKEN
            self._callbacks.put(_log_collapse, self.name, error)
        finally:
            self._finish()

    def _turn(self) -> None:
        inbox = self._inbox
        earliest = self._earliest()
        timeout = None if earliest is None else max(0.0, earliest - time.monotonic())
        self._loop.wait(timeout, inbox)
        for _ in range(len(inbox)):  # Bounded: a storm of submits must not hide the workers.
            if self._ended:
                return  # The rest is _reject()'s, which any thread may be at by now.
            item = inbox.popleft()
            if isinstance(item, Launched):
                self._fleet.adopt(item)
            elif callable(item):
                item()
            else:
                self._handle(item)
        # Deadlines last: what came in time is not late because this thread was.
        if earliest is not None and earliest <= (now := time.monotonic()):
            self._loop.run_timers(now)
            self._handle(ev.TimePassed())

    def _earliest(self) -> float | None:
        """When something is to be done unasked."""
        earliest = _earlier(self._core.next_deadline(), self._loop.next_timer())
        if not self._callbacks.is_empty:
            earliest = _earlier(earliest, self._callbacks.relieve(time.monotonic()))
        return earliest

    def _handle(self, event: ev.Event) -> None:
        self._carry_out(self._core.handle(event, time.monotonic()))
        # What came up while commands were carried out: never handled from within, or a thousand
        # cancelled tasks would be a thousand calls deep.
        while self._follow_ups:
            self._carry_out(self._core.handle(self._follow_ups.popleft(), time.monotonic()))

    def _carry_out(self, commands: list[ev.Command]) -> None:
        assert threading.get_ident() == self._thread.ident  # I1
        actions = self._ACTIONS
        for command in commands:
            actions[type(command)](self, command)

    # ------------------------------------------------------------------ commands about workers

    def _start_worker(self, command: ev.StartWorker) -> None:
        self._fleet.start(command.worker)

    def _dispatch(self, command: ev.DispatchTask) -> None:
        future = self._futures[command.task]
        if future.handed_over(self._fleet.pid(command.worker), time.monotonic()):
            self._fleet.run(command.worker, command.task, self._payloads[command.task])
        else:
            # The caller cancelled it in this instant, and was told that it succeeded.
            self._forget(command.task)
            self._settler.settle(future, future.finish_cancelling)
            self._follow_ups.append(ev.TaskCancelled(command.task))

    def _stop_worker(self, command: ev.StopWorker) -> None:
        self._fleet.stop(command.worker)

    def _kill_worker(self, command: ev.KillWorker) -> None:
        self._fleet.kill(command.worker)

    def _abandon_worker(self, command: ev.AbandonWorker) -> None:
        self._fleet.abandon(command.worker)
        self._callbacks.put(_log_abandoned, self.name, command.worker)

    # ------------------------------------------------------------------ commands about waiters

    def _settle(self, command: ev.SettleTask) -> None:
        future = self._forget(command.task)
        now = time.monotonic()
        failure = command.failure
        if failure is not None:
            if failure.kind is ev.FailureKind.TASK_TIMEOUT and failure.worker is not None:
                started = self._fleet.last_started(failure.worker) == command.task
                failure = dataclasses.replace(failure, started=started)
            self._settler.settle(future, future.settle_failed, to_error(failure, self.name), now)
        elif command.outcome is ev.Outcome.RETURNED:
            self._settler.settle(future, future.settle_returned, command.payload, now)
        else:
            self._settler.settle(future, future.settle_raised, command.payload, now)

    def _drop(self, command: ev.DropTask) -> None:
        future = self._forget(command.task)
        self._settler.settle(future, future.drop, time.monotonic())

    def _forget(self, task: int) -> TaskFuture[Any]:
        del self._payloads[task]
        return self._futures.pop(task)

    def _answer_warm(self, command: ev.AnswerWarm) -> None:
        failure = command.failure
        self._answer(command.waiter, None if failure is None else to_error(failure, self.name))

    def _answer(self, waiter: int, error: BaseException | None) -> None:
        # None there: it gave up in this instant.
        if (answer := self._waiters.pop(waiter, None)) is not None:
            answer.give(error)

    def _report(self, command: ev.ReportFailure) -> None:
        error = to_error(command.failure, self.name)
        self._callbacks.put(_log_failure, self.name, error, command.consequence)

    def _change_health(self, command: ev.ChangeHealth) -> None:
        self.last_failure = command.cause
        self.health = command.health

    def _end(self, _command: ev.EndPool) -> None:
        self._ended = True

    # ------------------------------------------------------------------ the end

    def _finish(self) -> None:
        self._ended = True
        self.health = ev.Health.BROKEN if self._collapse is not None else ev.Health.CLOSED
        self._reject()
        for task in list(self._futures):
            # Only a collapse leaves any.
            self._refuse(task)
        for waiter in list(self._waiters):
            self._answer(waiter, self._end_error())
        for part in (self._settler, self._fleet, self._loop, self._callbacks):
            try:
                part.close()
            except BaseException as error:
                # After a collapse, whose cause may be met here again: the rest has to be done.
                self._callbacks.put(_log_collapse, self.name, error)
        self._over = True
        self._release_enders()

    def _reject(self) -> None:
        """Answer what was posted when the core had ended. *Threads:* any; each item once."""
        while True:
            try:
                item = self._inbox.popleft()
            except IndexError:
                return
            if isinstance(item, ev.TaskSubmitted):
                self._refuse(item.task.id)
            elif isinstance(item, ev.WarmAwaited):
                self._answer(item.waiter, self._end_error())
            elif isinstance(item, Launched):
                self._fleet.disown(item)
            elif callable(item):
                item()

    def _refuse(self, task: int) -> None:
        # Two threads may be at it: whoever takes the future answers it.
        future = self._futures.pop(task, None)
        self._payloads.pop(task, None)
        if future is not None:
            settle = settle_waiting if may_wait() else self._settler.settle
            settle(future, future.settle_failed, self._end_error(), time.monotonic())

    def _end_error(self) -> WarmpoolError:
        if self._collapse is None:
            return to_error(ev.Failure(ev.FailureKind.POOL_CLOSED), self.name)
        error = PoolBroken(f"pool {self.name!r} has ended by an internal error; please report it")
        error.__cause__ = self._collapse
        return error

    def ensure_open(self) -> None:
        """Raise what a submit would meet now.

        Raises:
            PoolClosed: The pool is closed, or another process's.
            PoolBroken: Its workers keep failing. *Threads:* any; never blocks.
        """
        if self.is_foreign:
            raise PoolClosed(
                f"pool {self.name!r} belongs to process {self._owner}, of which this one is a "
                "fork: make a pool of its own here"
            )
        if self.health is ev.Health.CLOSED or self._ended:
            raise self._end_error()
        if self.health is ev.Health.BROKEN:
            raise to_error(
                ev.Failure(ev.FailureKind.POOL_BROKEN, cause=self.last_failure), self.name
            )

    _ACTIONS: ClassVar[dict[type[ev.Command], Callable[[Supervisor, Any], None]]] = {
        ev.StartWorker: _start_worker,
        ev.DispatchTask: _dispatch,
        ev.StopWorker: _stop_worker,
        ev.KillWorker: _kill_worker,
        ev.AbandonWorker: _abandon_worker,
        ev.SettleTask: _settle,
        ev.DropTask: _drop,
        ev.AnswerWarm: _answer_warm,
        ev.ReportFailure: _report,
        ev.ChangeHealth: _change_health,
        ev.EndPool: _end,
    }


def _earlier(one: float | None, other: float | None) -> float | None:
    if one is None:
        return other
    return one if other is None or one <= other else other


def _log_failure(pool: str, error: WarmpoolError, consequence: str) -> None:
    cause = error.__cause__
    text = f"; cause: {cause}" if cause is not None else ""
    logger.warning("pool %r: %s; %s%s", pool, error, consequence, text)


def _log_abandoned(pool: str, worker: int) -> None:
    logger.error(
        "pool %r: worker %d outlived SIGKILL (an uninterruptible system call?) and is left behind",
        pool,
        worker,
    )


def _log_collapse(pool: str, error: BaseException) -> None:
    logger.critical(
        "pool %r has ended by an internal error, please report it", pool, exc_info=error
    )
