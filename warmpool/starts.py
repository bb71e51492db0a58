"""Workers that are being started, as the supervisor's thread sees them.

The launcher's thread does it; here it is told to, and its reports come in. *Threads:* everything is
the supervisor's alone (I1), but where it says otherwise.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

from warmpool import events as ev
from warmpool.errors import WarmpoolError
from warmpool.launcher import Launcher, Report
from warmpool.loop import READ, Loop
from warmpool.plan import News
from warmpool.process import WorkerProcess
from warmpool.servers import Watch

LAUNCH_PATIENCE = 0.5
"""Seconds that an abandoned start may still take before it is broken off."""

LauncherMaker = Callable[[Report, News], Launcher]


@dataclass(frozen=True, slots=True)
class Launched:
    """The launcher's report of one start, on its way to the supervisor's thread."""

    worker: int
    outcome: WorkerProcess | BaseException


@dataclass(frozen=True, slots=True)
class ServerStarted:
    """What starts workers is there, and to be watched; on its way to the supervisor's thread."""

    watch: Watch


class Starts:
    """The launchers of a pool, and what they are at.

    Args:
        loop: Watches what starts workers, and keeps time.
        launcher: Makes the launcher, given where it reports.
        handle: Takes an event to the core.
        post: Takes a report of the launcher's thread to the supervisor's.
        report: Takes a failure of what starts workers, what follows from it, and the level of
            the line that tells of it. *Threads:* any.
    """

    def __init__(
        self,
        loop: Loop,
        launcher: LauncherMaker,
        handle: Callable[[ev.Event], None],
        post: Callable[[Launched | ServerStarted], None],
        report: Callable[[WarmpoolError, str, int], None],
    ) -> None:
        self._loop = loop
        self._handle = handle
        news = News(lambda watch: post(ServerStarted(watch)), report)
        self._launcher = launcher(lambda worker, outcome: post(Launched(worker, outcome)), news)
        self._former_launchers: list[Launcher] = []
        self._unborn: set[int] = set()
        # Invariant: workers whose start has not been reported.
        self._killed: set[int] = set()
        # Invariant: those of them that are to be killed.
        self._watches: list[Watch] = []

    def open(self) -> None:
        """Start the launcher's thread. *Threads:* the pool's maker."""
        self._launcher.open()

    def close(self) -> None:
        """End the launcher."""
        while self._watches:
            self._unwatch(self._watches[0])
        self._launcher.close()

    def join(self, timeout: float) -> None:
        """Wait for the launchers' ends, so many seconds each. *Threads:* any."""
        for launcher in (self._launcher, *self._former_launchers):
            launcher.join(timeout)

    # ------------------------------------------------------------------ one worker's

    def start(self, worker: int) -> None:
        """Have a worker started."""
        self._unborn.add(worker)
        self._launcher.start(worker)

    def hear(self, launched: Launched) -> WorkerProcess | None:
        """The process that the launcher reports, if there is one and it is wanted."""
        worker, process = launched.worker, launched.outcome
        if worker not in self._unborn:
            # Its start was broken off, and came to its end in that very instant.
            self.disown(launched)
            return None
        self._unborn.discard(worker)
        if not isinstance(process, WorkerProcess):
            self._killed.discard(worker)
            self.failed(worker, process)
            return None
        return process

    def was_killed(self, worker: int) -> bool:
        """Whether a worker that has just been started is to be killed; once."""
        killed = worker in self._killed
        self._killed.discard(worker)
        return killed

    def end(self, process: WorkerProcess) -> None:
        """Kill and reap a worker that nobody wants any more. *Threads:* any; never blocks."""
        self._launcher.end(process)

    def disown(self, report: Launched | ServerStarted) -> None:
        """End a worker that was started for a pool that has ended. *Threads:* any."""
        if isinstance(report, ServerStarted):
            report.watch.close()
        elif isinstance(report.outcome, WorkerProcess):
            self._launcher.end(report.outcome)

    def failed(self, worker: int, error: BaseException) -> None:
        """Tell the core that there is no such worker, and will be none."""
        failure = ev.Failure(ev.FailureKind.START_FAILED, worker, stage="starting", remote=error)
        self._handle(ev.WorkerStartFailed(worker, failure))

    def kill(self, worker: int) -> None:
        """Give up a start."""
        self._killed.add(worker)
        self._launcher.abandon(worker)
        self._break_off_later(worker)

    def _break_off_later(self, worker: int) -> None:
        when = time.monotonic() + LAUNCH_PATIENCE
        self._loop.call_at(when, functools.partial(self._break_off, worker))

    def _break_off(self, worker: int) -> None:
        if worker not in self._killed:
            return
        for launcher in (self._launcher, *self._former_launchers):
            if (heir := launcher.break_off(worker)) is not None:
                break
        else:
            # Its turn has not come, or its report is on the way.
            self._break_off_later(worker)
            return
        if launcher is self._launcher:
            self._former_launchers = [
                former for former in (*self._former_launchers, launcher) if not former.has_ended
            ]
            self._launcher = heir
        self._killed.discard(worker)
        self._unborn.discard(worker)
        self.failed(worker, TimeoutError("the start hung and was broken off"))

    # ------------------------------------------------------------------ what starts them

    def watch(self, started: ServerStarted) -> None:
        """Have it replaced as soon as it is dead."""
        watch = started.watch
        try:
            self._loop.watch(watch.descriptor, READ, lambda _ready: self._on_death(watch))
        except OSError:
            # The system's limit on what can be watched. Then the next start finds it dead.
            watch.close()
        else:
            self._watches.append(watch)

    def _on_death(self, watch: Watch) -> None:
        self._unwatch(watch)
        self._launcher.renew()

    def _unwatch(self, watch: Watch) -> None:
        self._watches.remove(watch)
        self._loop.forget(watch.descriptor)
        watch.close()
