"""The thread that starts processes, since that may block (I3).

``Process.start()`` blocks while a fork server imports or hangs, for instance. So the supervisor
only leaves word here, and hears back by a call that it runs on its own thread. A start that
hangs past its worker's deadline is broken off; should even that not help, the thread is left to
itself and another takes over the rest.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from warmpool import payload
from warmpool.child import Endpoints, Terms
from warmpool.early import Early
from warmpool.making import make_process
from warmpool.orphans import Orphans
from warmpool.plan import News, Plan
from warmpool.process import WorkerProcess
from warmpool.start import StartMethod
from warmpool.thread import DaemonThread
from warmpool.tray import Tray

Report = Callable[[int, "WorkerProcess | BaseException"], None]


class GaveUp(Exception):
    """The start was abandoned before it came to a process that lives."""


@dataclass(frozen=True, slots=True)
class _Order:
    """To start a worker."""

    worker: int
    at: float
    """When it was given (monotonic)."""


class _Renew:
    """To see to what the start method keeps between starts."""


class _Look:
    """To look after orphans."""


_Request = _Order | WorkerProcess | _Renew | _Look


class Launcher:
    """Starts workers one after the other on a thread of its own.

    Args:
        method: How.
        plan: What the method is to know.
        terms: What all workers have in common.
        report: Called on the launcher's thread with a worker's number and its process, or what
            went wrong. Must not block.
        news: Told of what the method keeps between starts.
    """

    def __init__(
        self,
        method: StartMethod,
        plan: Plan,
        terms: Terms,
        report: Report,
        news: News,
    ) -> None:
        self._method = method
        self._plan = plan
        self._pickled = plan.pickled  # Its descriptors are handed to each worker.
        self._terms = terms
        self._first_frame = plan.first_frame
        self._pool = plan.pool
        self._report = report
        self._news = news
        self._requests: queue.SimpleQueue[_Request | None]
        self._requests = queue.SimpleQueue()
        self._abandoned: set[int] = set()
        self._current: int | None = None
        self._heir: Launcher | None = None
        self._broken_off: set[int] = set()
        self._is_over = False
        self._orphans = Orphans(self._look_soon)
        self._thread = DaemonThread(self._run, f"{plan.pool}-launcher")

    def open(self) -> None:
        """Make the method ready and start the thread. *Threads:* the pool's maker."""
        self._method.open(self._plan, self._news)
        # The method has it as long as it needs it; futures of an ended pool would keep it here.
        self._plan = Plan(self._pool, self._plan.init_timeout, pickled=self._pickled)
        self._thread.start()

    # ------------------------------------------------------------------ the supervisor's side

    def start(self, worker: int) -> None:
        """Start a worker soon. *Threads:* the supervisor's; never blocks."""
        self._requests.put(_Order(worker, time.monotonic()))

    def renew(self) -> None:
        """Have what the method keeps between starts looked after: it has died.

        *Threads:* the supervisor's; never blocks.
        """
        self._requests.put(_Renew())

    def abandon(self, worker: int) -> None:
        """Take a start back; its report will come all the same. *Threads:* the supervisor's."""
        self._abandoned.add(worker)

    def break_off(self, worker: int) -> Launcher | None:
        """Unblock the thread, which has hung in the start of this worker for too long.

        Returns:
            An opened launcher to go on with; this one gets no more to do, and does not report this
            start. None if it was not this start that hung, or if there is no thread to be had: ask
            again.

        *Threads:* the supervisor's; never blocks.
        """
        if self._current != worker:
            return None
        if self._heir is None:
            heir = self._make_heir()
            if heir is None:
                return None
            # First this, then the queue: the thread may go on at any moment, and what it takes from
            # there belongs to the heir from here on.
            self._heir = heir
            self._orphans.wake = heir._look_soon
            with contextlib.suppress(queue.Empty):
                while True:
                    heir._requests.put(self._requests.get_nowait())
            self._requests.put(None)
        self._broken_off.add(worker)
        self._method.break_off()  # Last: it lets the thread go on.
        return self._heir

    def _make_heir(self) -> Launcher | None:
        heir = Launcher(
            self._method,
            self._plan,
            self._terms,
            self._report,
            self._news,
        )
        heir._abandoned = self._abandoned
        heir._orphans = self._orphans
        try:
            heir._thread.start()
        except RuntimeError:
            return None
        return heir

    def end(self, process: WorkerProcess) -> None:
        """Kill and reap a worker that nobody wants any more. *Threads:* any; never blocks."""
        process.kill()
        self._requests.put(process)
        if self._is_over:
            self._end_what_is_left()

    def close(self) -> None:
        """End after the present start, and let the method go. *Threads:* any; never blocks."""
        self._method.abandon()
        self._requests.put(None)
        if self._thread.call_off():
            self._run()  # It was never started: there is nothing but the end.

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is to be expected of it."""
        return self._thread.join(0.0) and self._is_over

    def join(self, timeout: float) -> bool:
        """Wait for the thread's end, in seconds; False if it has not come."""
        return self._thread.join(timeout)

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        while (request := self._next()) is not None:
            if self._heir is not None:
                # Taken as this was broken off.
                self._heir._requests.put(request)
            elif isinstance(request, WorkerProcess):
                _end(request)
            elif isinstance(request, _Order):
                self._carry_out(request)
            elif isinstance(request, _Renew):
                self._method.renew()
            self._orphans.look()
        if self._heir is None:
            self._method.close()
            self._orphans.close()
            if self._pickled is not None:
                self._pickled.close()
            self._first_frame = b""
        # First this: a worker that was started as the pool collapsed may come at any moment.
        self._is_over = True
        self._end_what_is_left()

    def _look_soon(self) -> None:
        self._requests.put(_Look())

    def _next(self) -> _Request | None:
        try:
            return self._requests.get(timeout=self._orphans.look_again_in)
        except queue.Empty:
            return _Look()

    def _carry_out(self, order: _Order) -> None:
        worker = self._current = order.worker
        outcome = self._start(order)
        self._current = None
        if worker not in self._broken_off:
            self._report(worker, outcome)
        elif isinstance(outcome, WorkerProcess):
            _end(outcome)

    def _end_what_is_left(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                if isinstance(late := self._requests.get_nowait(), WorkerProcess):
                    _end(late)

    def _start(self, order: _Order) -> WorkerProcess | BaseException:
        worker = order.worker
        try:
            if worker in self._abandoned:
                raise GaveUp
            process = self._launch(order)
            if worker in self._abandoned:
                _end(process)
                raise GaveUp
            return process
        except BaseException as error:
            # SystemExit included: somebody's at-fork hook or reducer must not end this thread.
            return _without_frames(error)
        finally:
            self._abandoned.discard(worker)

    def _launch(self, order: _Order) -> WorkerProcess:
        worker = order.worker

        def start(early: Early, data: Connection, tray: Tray | None) -> BaseProcess:
            endpoints = Endpoints(
                self._terms,
                worker,
                early,
                data,
                None if tray is None else tray.theirs,
                tuple(map(payload.Descriptor, self._pickled.descriptors if self._pickled else ())),
            )
            return self._method.start(endpoints, endpoints.name, order.at)

        return make_process(
            worker,
            start,
            self._first_frame,
            via_server=self._method.via_server,
            orphans=self._orphans,
            has_tray=self._terms.has_tray,
        )


def _without_frames(error: BaseException) -> BaseException:
    """The error is kept for long; its frames would keep the descriptors of what has failed."""
    at: BaseException | None = error
    while at is not None and at.__traceback__ is not None:
        at.__traceback__ = None
        at = at.__cause__ or at.__context__
    return error


def _end(process: WorkerProcess) -> None:
    """Kill and reap a worker that nobody wants any more. Blocks until it is dead."""
    process.kill()
    wait([process.watch])
    process.collect()
    process.release()
