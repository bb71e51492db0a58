"""The thread: readiness becomes events, commands become system calls and hand-offs.

*fd ready or timer → event → core → commands → system calls and hand-offs.*

The invariants, and what enforces each:

I1   One thread owns processes, descriptors and the selector. (The launcher only makes them, and
     hands them over; while the thread sleeps it lends idle workers' channels for one frame each,
     see ``lease``; ``assert`` in :meth:`Supervisor._carry_out`.)
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
import functools
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
from warmpool.announcer import Announcer, announce_waiting
from warmpool.answer import Answer, may_wait, supervise
from warmpool.callbacks import CallbackRunner, logger
from warmpool.core import Core, Settings
from warmpool.errors import PoolBroken, PoolClosed, WarmpoolError
from warmpool.failures import to_error
from warmpool.fleet import Fleet, Launched
from warmpool.future import TaskFuture
from warmpool.launcher import Launcher
from warmpool.lease import LONGEST_FRAME, Lease, Submission
from warmpool.loop import Loop
from warmpool.parker import Parker, Parkers
from warmpool.process import WorkerProcess

JOIN_PATIENCE = 1.0
"""Seconds that the end waits for each helper thread, which by then has nothing left to do."""

LEASES = 8
"""How many workers are on loan at most: more tasks than that seldom come in one sleep, and taking
leases back takes time."""
SEND_PATIENCE = 1.0
"""Seconds in which the taker of a lease has to have written. It takes microseconds, unless the
thread is stopped, or a signal handler that interrupted it waits for something."""

Item = ev.Event | Launched | Submission | Callable[[], None]
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
        self._announcer = Announcer(self._loop, self._callbacks, name)
        self._inbox: deque[Item] = deque()
        self._follow_ups: deque[ev.Event] = deque()
        self._submissions: dict[int, Submission] = {}
        # Invariant: those that the core has not answered. The thread's alone.
        self._leases: deque[Lease] = deque()
        # Invariant: empty, and every lease revoked, unless the thread sleeps.
        self._on_loan: list[Lease] = []
        self._unsent: deque[tuple[float, int, int]] = deque()
        # Invariant: when, task, worker. Not the submission, which would outlive its result here.
        self._wakes_at = -math.inf
        self._to_unpark: list[Parker] = []
        self.parkers = Parkers()
        self._waiters: dict[int, Answer] = {}
        self._waiter_numbers = itertools.count(1)
        self._enders: deque[Answer] = deque()
        self._run_or_not: list[None] = [None]
        # Who takes it off decides: the thread that it serves, or its starter that it never does.
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
            self._callbacks.open()
            self._fleet.open()
            self._thread.start()
        except BaseException:
            # No thread left, or a Ctrl-C: then the thread may have been started, and Thread.start()
            # been interrupted as it waited for it.
            if self._decides():
                self._finish()
            else:
                self.close(0.0)
            raise

    @property
    def has_ended(self) -> bool:
        """Whether the thread is done, or is another process's."""
        return self.is_foreign or self._over

    def last_error(self) -> WarmpoolError | None:
        """Why the last worker failed that did."""
        failure = self.last_failure
        return None if failure is None else to_error(failure, self.name)

    def submit(self, submission: Submission) -> bool:
        """Hand a task in; True if a worker has it already. *Threads:* any; never blocks."""
        # Not past an earlier task of the same thread, which may be in the inbox still: with one
        # worker, tasks run in the order of their submission.
        if self._leases and not self._inbox and len(submission.payload) <= LONGEST_FRAME:
            try:
                lease = self._leases.popleft()
            except IndexError:
                lease = None  # Another thread was faster.
            if lease is not None and self._use(lease, submission):
                return True
        self._post(submission)
        return False

    def _use(self, lease: Lease, submission: Submission) -> bool:
        spec, future = submission.spec, submission.future
        submission.taken_at = now = time.monotonic()
        # Nobody else knows the future yet, so this can be taken back.
        future.handed_over(lease.pid, now)
        if not lease.take(submission):
            future.take_back()
            return False
        try:
            rest = lease.send(submission)
            submission.sent = True
            if rest is not None:
                self._post(functools.partial(self._fleet.send_rest, lease.worker, rest))
        except BaseException:
            # Ctrl-C. Whether the frame has gone is not known, and nobody has the future.
            self.kill(spec.id)
            raise
        if spec.timeout is not None and now + spec.timeout < self._wakes_at:
            self._post(_look_again)
        return True

    def admit(self, submission: Submission) -> None:
        """As :meth:`submit`, but wait until the core has taken or refused it."""
        if not self.submit(submission):
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
        for join in (self._join, self._fleet.join, self._callbacks.join):
            join(min(JOIN_PATIENCE, max(0.0, deadline - time.monotonic())))
        return True

    def _join(self, timeout: float) -> None:
        if self._thread.is_alive():  # Not if the system had none left.
            self._thread.join(timeout)

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
        self.parkers.close()
        self._loop.close_after_fork()

    def _post(self, item: Item) -> None:
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

    def _decides(self) -> bool:
        try:
            self._run_or_not.pop()
        except IndexError:
            return False
        return True

    def _run(self) -> None:
        if not self._decides():
            return
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
        if not inbox:
            self._wakes_at = math.inf if earliest is None else earliest
            self._lend()
        self._unpark()
        ready = self._loop.wait(timeout, inbox)
        self._revoke()
        self._loop.call_back(ready)
        for _ in range(len(inbox)):  # Bounded: a storm of submits must not hide the workers.
            if self._ended:
                return  # The rest is _reject()'s, which any thread may be at by now.
            item = inbox.popleft()
            if isinstance(item, Submission):
                self._submissions[item.spec.id] = item
                self._handle(ev.TaskSubmitted(item.spec))
            elif isinstance(item, Launched):
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

    def _unpark(self) -> None:
        """Wake those whose futures are settled, as the last thing before this thread sleeps.

        They find the GIL free, and idle workers on loan.
        """
        for parker in self._to_unpark:
            parker.unpark()
        self._to_unpark.clear()

    def _lend(self) -> None:
        """Lend idle workers to whoever submits a task while this thread sleeps."""
        for worker in self._core.on_loan(LEASES):
            lease = self._fleet.lease(worker)
            if lease is not None:
                lease.lend()
                self._on_loan.append(lease)
        self._leases.extend(self._on_loan)

    def _revoke(self) -> None:
        """Take back what was lent, and hear what it was taken for."""
        self._leases.clear()
        for lease in self._on_loan:
            submission = lease.revoke()
            if submission is not None:
                self._take_note(lease, submission)
        self._on_loan.clear()

    def _take_note(self, lease: Lease, submission: Submission) -> None:
        spec = submission.spec
        self._submissions[spec.id] = submission
        if not submission.sent:
            # Its taker is about to write. Should it not come to that, the worker is lost.
            noted = time.monotonic()
            if not self._unsent:
                self._loop.call_at(noted + SEND_PATIENCE, self._look_for_unsent)
            self._unsent.append((noted, spec.id, lease.worker))
        self._handle(ev.TaskTaken(spec, lease.worker, submission.taken_at))

    def _look_for_unsent(self) -> None:
        until = time.monotonic() - SEND_PATIENCE
        while self._unsent and self._unsent[0][0] <= until:
            _, task, worker = self._unsent.popleft()
            submission = self._submissions.get(task)
            if submission is not None and not submission.sent:
                self._fleet.give_up(worker, "got no task: its submitter is stopped half way")
        if self._unsent:
            self._loop.call_at(self._unsent[0][0] + SEND_PATIENCE, self._look_for_unsent)

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
        submission = self._submissions[command.task]
        future, now = submission.future, time.monotonic()
        if future.handed_over(self._fleet.pid(command.worker), now):
            self._fleet.run(command.worker, command.task, submission.payload)
        else:
            # The caller cancelled it in this instant, and was told that it succeeded.
            self._forget(command.task)
            future.finish_cancelling(now)
            self._announce(future)
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
            future.settle_failed(to_error(failure, self.name), now)
        elif command.outcome is ev.Outcome.RETURNED:
            future.settle_returned(command.payload, now)
        else:
            future.settle_raised(command.payload, now)
        self._announce(future)

    def _announce(self, future: TaskFuture[Any]) -> None:
        self._to_unpark.extend(future.parked())
        if future.has_audience:
            self._announcer.announce(future)

    def _drop(self, command: ev.DropTask) -> None:
        future = self._forget(command.task)
        future.drop(time.monotonic())
        self._announce(future)

    def _forget(self, task: int) -> TaskFuture[Any]:
        return self._submissions.pop(task).future

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
        self._leases.clear()
        self._reject()
        # Only a collapse leaves any.
        taken = [lease.revoke() for lease in self._on_loan]
        for submission in (*taken, *self._submissions.values()):
            if submission is not None:
                self._refuse(submission)
        for waiter in list(self._waiters):
            self._answer(waiter, self._end_error())
        self._unpark()
        for part in (self.parkers, self._announcer, self._fleet, self._loop, self._callbacks):
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
            if isinstance(item, Submission):
                self._refuse(item)
            elif isinstance(item, ev.WarmAwaited):
                self._answer(item.waiter, self._end_error())
            elif isinstance(item, Launched):
                self._fleet.disown(item)
            elif callable(item):
                item()

    def _refuse(self, submission: Submission) -> None:
        future = submission.future
        future.settle_failed(self._end_error(), time.monotonic())
        for parker in future.parked():
            parker.unpark()
        if future.has_audience:
            announce = announce_waiting if may_wait() else self._announcer.announce
            announce(future)

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


def _look_again() -> None:
    """Posted for its wake-up alone."""


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
