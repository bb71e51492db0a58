"""The thread: readiness becomes events, commands become system calls and hand-offs.

*fd ready or timer → event → core → commands → system calls and hand-offs.*

The invariants, and what enforces each:

I1   One thread owns processes, descriptors and the selector. (The launcher only makes them, and
     hands them over; while the thread sleeps it lends idle workers' channels, see ``lease`` and
     ``turns``; ``assert`` in :meth:`Supervisor._carry_out`.)
I2   It never runs user code: no callback, no pickling or unpickling of the user's objects, no log
     handler. (``callbacks``, ``future``; tests/test_architecture.py, tests/faults.)
I3   It blocks nowhere but in ``select()``: until there is something to do, or for a moment that
     others have first (``parker.make_way``). (``channel``, ``launcher``; tests/faults.)
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

import contextlib
import math
import random
import time
from collections import deque
from collections.abc import Callable
from logging import WARNING
from typing import Any

from warmpool import events as ev
from warmpool import forkguard
from warmpool.answer import Answer, Waiters, supervise
from warmpool.census import Census
from warmpool.core import Core
from warmpool.dispatching import Dispatcher
from warmpool.errors import PoolBroken, PoolClosed, WarmpoolError
from warmpool.failures import to_error
from warmpool.fleet import Fleet
from warmpool.helpers import JOIN_PATIENCE, Helpers
from warmpool.inbox import Inbox
from warmpool.lease import Submission
from warmpool.lending import MOST_LEASES, Lender
from warmpool.loglines import LogLines
from warmpool.loop import Loop
from warmpool.notices import Notice, WorkerFailed
from warmpool.parker import Parkers
from warmpool.publishing import Publisher
from warmpool.settling import Settler
from warmpool.starts import Launched, LauncherMaker, ServerStarted, Starts
from warmpool.state import Settings, smallest_limit
from warmpool.thread import DaemonThread

Item = ev.Event | Launched | ServerStarted | Submission | Callable[[], None]


class Supervisor:
    """The pool's one thread. Other threads talk to it by :class:`~warmpool.desk.Desk`.

    Args:
        name: The pool's.
        settings: For the core.
        launcher: Makes the launcher, given where it reports.
        initializer: The body of every worker's first message, unless the launcher has sent that.
        on_event: Told of everything, if the settings say so.
        about: What is published of the pool, beside the census; None: nothing is.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        launcher: LauncherMaker,
        initializer: bytes | None,
        on_event: Callable[[Notice], object] | None = None,
        about: dict[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.health = ev.Health.WARMING
        self.last_failure: ev.Failure | None = None
        self.collapse: BaseException | None = None
        self.is_over = False
        self._core = Core(settings, random.Random().random)
        self._loop = Loop()
        self.inbox: Inbox[Item] = Inbox(self._loop.wake, self._reject)
        self._lines = LogLines(name)
        self._helpers = Helpers(
            name,
            smallest_limit(settings) or 0,
            on_event,
            settings.forwards_logs,
            lambda worker, used: self.inbox.post(ev.MemoryRead(worker, used)),
            None if about is None else Publisher(name, about, self.ask_census),
        )
        self._starts = Starts(
            self._loop, launcher, self._handle, self.inbox.post, self._report_failure
        )
        self._fleet = Fleet(
            self._loop,
            self._starts,
            initializer,
            self._handle,
            self._helpers.relay.pass_on,
            lambda tasks: self._settler.take_back(tasks),
        )
        self.parkers = Parkers()
        self.lender = Lender(
            self._fleet,
            self._loop,
            self.inbox.post,
            lambda worker: self._helpers.log(self._lines.given_up, worker),
            self.parkers,
        )
        self._settler = Settler(name, self._helpers.callbacks, self._helpers.announcer)
        self._follow_ups: deque[ev.Event] = deque()
        self.warm_waiters = Waiters()
        self.end_waiters = Waiters()
        self._at_end: Callable[[], object] | None = None
        self._thread = DaemonThread(self._run, f"{name}-supervisor")
        self._actions = self._all_actions()
        forkguard.enroll(self)

    # ------------------------------------------------------------------ for other threads

    def open(self, at_end: Callable[[], object]) -> None:
        """Start the threads and, with them, the workers.

        Args:
            at_end: Called when all is over. Must not block.

        Raises:
            RuntimeError: The system has no thread left.
        """
        self._at_end = at_end
        # First: it may copy the host, which is better done without threads of ours.
        self._starts.open()
        self._helpers.open()
        self._thread.start()

    def abort(self) -> None:
        """End what failed to open, or was interrupted as it did, at whatever line. Never blocks."""
        if self._thread.call_off():
            self._finish()
        else:
            self.inbox.post(ev.CloseRequested(0.0))

    def census(self) -> Census:
        """Count what there is. *Threads:* the supervisor's, or any once it is over."""
        census = self._core.census(time.monotonic())
        return census if self.collapse is None else census.of_the_past(self.health)

    def ask_census(self, timeout: float | None = None) -> Census:
        """As :meth:`census`. *Threads:* any but the supervisor's; blocks shortly.

        Raises:
            TimeoutError: There is no answer within the timeout, in seconds.
        """
        counted: list[Census] = []
        answer = Answer()

        def count() -> None:
            try:
                counted.append(self.census())
            finally:
                answer.give()

        self.inbox.post(count)
        if not answer.wait(timeout) and not counted:
            raise TimeoutError(f"pool {self.name!r} has not answered within {timeout} s")
        return counted[0] if counted else self.census()

    def is_this_thread(self) -> bool:
        """Whether it is the supervisor's thread that asks."""
        return self._thread.is_current

    def join(self, timeout: float) -> None:
        """Wait for the ends of its threads, so many seconds in all. *Threads:* any; blocks."""
        deadline = time.monotonic() + timeout
        self._helpers.finish(deadline)
        for part in (self._thread, self._starts):
            part.join(min(JOIN_PATIENCE, max(0.0, deadline - time.monotonic())))
        self._helpers.join(deadline)

    def end_error(self) -> WarmpoolError:
        """What whoever asks for something after the end is told."""
        if self.collapse is None:
            # The end of it in the words of concurrent.futures.
            return PoolClosed(
                f"pool {self.name!r} is closed: cannot schedule new futures after shutdown"
            )
        error = PoolBroken(f"pool {self.name!r} has ended by an internal error; please report it")
        error.__cause__ = self.collapse
        return error

    def close_after_fork(self) -> None:
        """See :mod:`warmpool.forkguard`."""
        self.parkers.close()
        self._loop.close_after_fork()

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        supervise()
        try:
            self._carry_out(self._core.open(time.monotonic()))
            while not self.inbox.has_ended:
                self._turn()
        except BaseException as error:
            # The safety net. This branch should never run: it means a bug in warmpool. The host
            # lives on, every waiter is answered, every worker killed.
            self.collapse = error
            self.health = ev.Health.BROKEN
            self._helpers.log(self._lines.collapse, error)
        finally:
            self._finish()

    def _turn(self) -> None:
        inbox = self.inbox.items
        earliest = wakes_at = self._earliest()
        if not inbox:
            wakes_at = self.lender.lend(self._core.on_loan(MOST_LEASES), earliest)
        now = -math.inf if wakes_at is None else time.monotonic()
        timeout = None if wakes_at is None else max(0.0, wakes_at - now)
        self._settler.unpark()
        ready = self._loop.wait(timeout, inbox)
        if not ready and timeout:
            now = time.monotonic()
            # A stop of this process (a job control signal, a suspended machine) ends the sleep with
            # nothing to report though something is ready: it may have come in time.
            ready = self._loop.wait(0.0, ())
        if self.lender.hear(self._settler, self._handle):
            ready = self._loop.wait(0.0, ())
        self._loop.call_back(ready)
        for _ in range(len(inbox)):  # Bounded: a storm of submits must not hide the workers.
            if self.inbox.has_ended:
                return
            item = inbox.popleft()
            if isinstance(item, Submission):
                self._settler.enter(item)
                self._handle(ev.TaskSubmitted(item.spec))
            elif isinstance(item, Launched):
                self._fleet.adopt(item)
            elif isinstance(item, ServerStarted):
                self._starts.watch(item)
            elif callable(item):
                item()
            else:
                self._handle(item)
            del item  # The last reference to a future may be in it; see settling.
        # Deadlines last, and only those that had passed when this looked for what is ready: what
        # came in time is not late because this thread was, or was stopped since.
        if earliest is not None and earliest <= now:
            self._loop.run_timers(now)
            self._handle(ev.TimePassed(), now)

    def _earliest(self) -> float | None:
        """When something is to be done unasked."""
        earliest = _earlier(self._core.next_deadline(), self._loop.next_timer())
        return self._helpers.relieve(earliest)

    def _handle(self, event: ev.Event, now: float | None = None) -> None:
        self._carry_out(self._core.handle(event, time.monotonic() if now is None else now))
        # What came up while commands were carried out: never handled from within, or a thousand
        # cancelled tasks would be a thousand calls deep.
        while self._follow_ups:
            self._carry_out(self._core.handle(self._follow_ups.popleft(), time.monotonic()))

    def _carry_out(self, commands: list[ev.Command]) -> None:
        assert self._thread.is_current  # I1
        actions = self._actions
        for command in commands:
            actions[type(command)](command)

    def _all_actions(self) -> dict[type[ev.Command], Callable[[Any], object]]:
        fleet, report = self._fleet, self._helpers.log
        return {
            ev.StartWorker: lambda command: fleet.start(command.worker),
            **Dispatcher(self._settler, fleet, self._follow_ups.append).actions,
            ev.StopWorker: lambda command: fleet.stop(command.worker),
            ev.TakeStack: self._take_stack,
            ev.ReadHeartbeats: self._read_heartbeats,
            ev.ReadMemory: self._read_memory,
            ev.InterruptTask: fleet.interrupt,
            ev.KillWorker: lambda command: fleet.kill(command.worker),
            ev.AbandonWorker: self._abandon_worker,
            ev.SettleTask: self._settler.settle,
            ev.DropTask: self._settler.drop,
            ev.AnswerWarm: self._answer_warm,
            ev.ReportFailure: self._report,
            ev.ReportSilence: lambda command: report(self._lines.silence, command),
            ev.ReportMemory: lambda command: report(self._lines.memory, command),
            ev.Tell: lambda command: self._helpers.tell(command.notice),
            ev.ChangeHealth: self._change_health,
            ev.EndPool: lambda _command: self.inbox.end(),
        }

    # ------------------------------------------------------------------ commands about workers

    def _take_stack(self, command: ev.TakeStack) -> None:
        taken = self._fleet.take_stack(command.worker, command.task)
        if taken is not None:
            self._follow_ups.append(taken)

    def _read_heartbeats(self, command: ev.ReadHeartbeats) -> None:
        self._follow_ups.append(ev.HeartbeatsRead(self._fleet.beats(command.workers)))

    def _read_memory(self, command: ev.ReadMemory) -> None:
        for worker in command.workers:
            self._helpers.sampler.ask(worker, self._fleet.pid(worker))

    def _abandon_worker(self, command: ev.AbandonWorker) -> None:
        self._fleet.abandon(command.worker)
        self._helpers.log(self._lines.abandoned, command.worker)

    # ------------------------------------------------------------------ commands about waiters

    def _answer_warm(self, command: ev.AnswerWarm) -> None:
        failure = command.failure
        self.warm_waiters.answer(
            command.waiter, None if failure is None else to_error(failure, self.name)
        )

    def _report(self, command: ev.ReportFailure) -> None:
        error = to_error(command.failure, self.name)
        worker, pid, now = command.failure.worker, command.failure.pid, time.monotonic()
        self._helpers.tell(WorkerFailed(now, worker, pid, error, command.consequence))
        self._report_failure(error, command.consequence, WARNING)

    def _report_failure(self, error: WarmpoolError, consequence: str, level: int) -> None:
        """One line in the log. *Threads:* any."""
        self._helpers.log(self._lines.failure, error, consequence, level)

    def _change_health(self, command: ev.ChangeHealth) -> None:
        self.last_failure = command.cause
        self.health = command.health

    # ------------------------------------------------------------------ the end

    def _finish(self) -> None:
        self.health = ev.Health.BROKEN if self.collapse is not None else ev.Health.CLOSED
        # From here on _reject() runs on any thread.
        for end in (self._refuse_all, self.inbox.end, self._answer_all, self._close_all):
            try:
                end()
            except BaseException as error:
                # After a collapse, whose cause may be met here again: the rest has to be done.
                self._helpers.log(self._lines.collapse, error)
        self.is_over = True
        if self._at_end is not None:
            self._at_end()
        self.end_waiters.answer_all()

    def _refuse_all(self) -> None:
        """Answer the tasks that a collapse has left."""
        left = self.lender.revoke()
        for returned in left:
            self._settler.complete(returned.unsure)
        taken = [returned.taken for returned in left if returned.taken is not None]
        self._settler.refuse_all(taken, self.end_error)

    def _answer_all(self) -> None:
        self.warm_waiters.answer_all(self.end_error())
        self._settler.unpark()

    def _close_all(self) -> None:
        with contextlib.ExitStack() as each:  # The last is the first.
            each.callback(self._helpers.close)
            each.callback(self._loop.close)
            for part in (self._fleet, self.parkers):
                each.callback(part.close)
            each.callback(self._helpers.close_first)

    def _reject(self, item: Item) -> None:
        """Answer what was posted when the core had ended. *Threads:* any."""
        if isinstance(item, Submission):
            self._settler.refuse(item, self.end_error)
        elif isinstance(item, ev.WarmAwaited):
            self.warm_waiters.answer(item.waiter, self.end_error())
        elif isinstance(item, Launched | ServerStarted):
            self._starts.disown(item)
        elif callable(item):
            item()


def _earlier(one: float | None, other: float | None) -> float | None:
    if one is None:
        return other
    return one if other is None or one <= other else other
