"""The birth of a process: its channels are made, it is started, and the host holds it.

If any step fails, what the steps before it have made is undone.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from warmpool import channel, forkguard, payload, recorder
from warmpool.early import Early
from warmpool.orphans import Orphans
from warmpool.process import WorkerProcess, open_death_watch
from warmpool.tray import Tray


def make_process(
    number: int,
    start: Callable[[Early, Connection, Tray | None], BaseProcess],
    first: bytes = b"",
    *,
    via_server: bool,
    orphans: Orphans | None = None,
    has_tray: bool = False,
) -> WorkerProcess:
    """Make a process with a data channel, a lifeline and a flight recorder.

    Args:
        number: The worker's.
        start: Starts it, given its ends of these, and its tray.
        first: Waits for it in its channel, so that it need not wait for the supervisor's thread: a
            frame that any empty socket takes at once.
        via_server: Whether another process than the host becomes its parent.
        orphans: Looks after it when it is dead and not collected yet.
        has_tray: Whether it is to have one.

    Raises:
        Exception: Whatever ``start`` raises; or the system's limits were met.

    *Threads:* any; blocks as long as ``start`` does.
    """
    with contextlib.ExitStack() as undo, contextlib.ExitStack() as handed_over:
        ours, theirs = _Ends(), _Ends()
        undo.callback(ours.close)
        handed_over.callback(theirs.close)
        with forkguard.making():
            data, childs_data = channel.make_ends()
            ours.add(data.close)
            theirs.add(childs_data.close)
            if first:
                data.send(first, channel.AT_ONCE)
            lifeline, childs_lifeline = multiprocessing.Pipe()
            ours.add(lifeline.close)
            theirs.add(childs_lifeline.close)
            descriptor = recorder.create()
            theirs.add(functools.partial(os.close, descriptor))
            record = recorder.Recorder(descriptor)
            ours.add(record.close)
            tray = None
            if has_tray:
                tray = Tray()
                ours.add(tray.close)
        process = start(Early(childs_lifeline, payload.Descriptor(descriptor)), childs_data, tray)
        undo.callback(_end_bare, process, via_server)
        with forkguard.making():
            watch = open_death_watch(process)
            undo.pop_all()
            ours.disown()
            made = WorkerProcess(
                number,
                process,
                watch,
                data,
                lifeline,
                record,
                tray,
                via_server=via_server,
                orphans=orphans,
            )
            forkguard.enroll(made)
        return made


class _Ends:
    """The ends of a process that is being made: those of one side.

    The host has the other side's too, for a moment. A copy of the host that is made just then, for
    another pool, must have neither.
    """

    def __init__(self) -> None:
        self._closers: list[Callable[[], object]] = []
        forkguard.enroll(self)

    def add(self, close: Callable[[], object]) -> None:
        """Have one more, by what closes it."""
        self._closers.append(close)

    def close(self) -> None:
        while self._closers:
            self._closers.pop()()

    def disown(self) -> None:
        """Leave them to somebody else."""
        self._closers.clear()

    def close_after_fork(self) -> None:
        """See :mod:`warmpool.forkguard`."""
        self.close()


def _end_bare(process: BaseProcess, via_server: bool) -> None:
    """Kill and reap a process that has no pidfd, for want of descriptors."""
    if process.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    if not via_server:
        process.join()
