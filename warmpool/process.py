"""One worker process as the host holds it: signal it, learn of its death, reap it.

The only place, with :mod:`warmpool.start`, that touches processes.

Some facts, and what follows:

* The sentinel of ``multiprocessing`` stays silent while a grandchild holds the worker's end of it,
  and fires falsely when the fork server is killed. A pidfd does neither (I4). Where there are no
  pidfds the sentinel has to do.
* A worker of the fork server is reaped by that server, at once: its pid may be another's as soon
  as the pidfd is readable. Its process group is safe to signal while the pid is known to be its
  own: alive, or dead and not reaped (I15).
* The exit status may be gone (somebody's ``waitpid(-1)``, an ignored SIGCHLD, a killed fork
  server), or late (another thread has collected it and not stored it yet, the fork server has not
  written it yet). The kernel may know it (:mod:`warmpool.laststatus`). Else late ones are asked for
  again; the death itself is never in doubt (I5).
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing.process
import os
import signal
import socket
import struct
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from warmpool import laststatus
from warmpool.orphans import Orphans
from warmpool.recorder import INTERRUPT_SIGNAL, STACK_SIGNAL, Recorder
from warmpool.tray import Tray

_children: set[BaseProcess] = getattr(multiprocessing.process, "_children", set())

_STATUS = struct.Struct("=q")  # What the parent of the process writes into the sentinel.


def open_death_watch(process: BaseProcess) -> int:
    """A descriptor that gets readable at the death of the process; the caller's to close."""
    assert process.pid is not None
    take = getattr(getattr(process, "_popen", None), "take_watch", None)
    if take is not None and (taken := take()) is not None:
        return int(taken)  # By its parent at its birth: nobody could have reaped it.
    if hasattr(os, "pidfd_open"):
        try:
            return os.pidfd_open(process.pid)
        except OSError as error:
            # ESRCH: dead, and reaped by the fork server already: its sentinel is readable.
            # ENOSYS, EPERM: an old kernel, or a sandbox that does not know pidfds.
            if error.errno not in (errno.ESRCH, errno.ENOSYS, errno.EPERM):
                raise
    return os.dup(process.sentinel)


class WorkerProcess:
    """A started worker and the host's ends of its channels.

    Args:
        worker: The worker's number.
        process: Started.
        watch: From :func:`open_death_watch`.
        data: The host's end of the data channel.
        lifeline: The host's end of the lifeline.
        recorder: The host's view of the flight recorder.
        tray: Both ends of its tray, if it has one.
        via_server: Whether another process than the host is its parent.
        orphans: Looks after it if it is dead and not collected yet.
    """

    def __init__(
        self,
        worker: int,
        process: BaseProcess,
        watch: int,
        data: socket.socket,
        lifeline: Connection,
        recorder: Recorder,
        tray: Tray | None = None,
        *,
        via_server: bool,
        orphans: Orphans | None = None,
    ) -> None:
        assert process.pid is not None
        self.worker = worker
        self.pid = process.pid
        self.watch = watch
        self.data = data
        self.recorder = recorder
        self._tray = tray
        self._process = process
        self._lifeline = lifeline
        self._via_server = via_server
        self._orphans = orphans
        # Should the application close the process object, on any thread, the number stays its own.
        self._status = getattr(getattr(process, "_popen", None), "_status", None)
        self._exitcode: int | None = None

    # ------------------------------------------------------------------ its tray

    @property
    def has_tray(self) -> bool:
        """Whether it has one."""
        return self._tray is not None

    def put_into_tray(self, task: int, body: bytes) -> bool:
        """Lay a task out; False if there is no room for it."""
        assert self._tray is not None
        return self._tray.put(task, body)

    def empty_tray(self) -> tuple[int, ...]:
        """Take out what the worker has not taken: tasks, in their order."""
        return () if self._tray is None else self._tray.take_back()

    # ------------------------------------------------------------------ signals

    def kill(self) -> None:
        """SIGKILL the worker and its process group."""
        self._kill_group()
        # The group may not exist yet: the worker makes it as its first act.
        try:
            self._signal(signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            # The host has given up its privileges, or the worker has taken other ones on; or its
            # server was killed where there are no pidfds. If it is not dead, the end of the
            # lifeline ends it.
            self._lifeline.close()

    def ask_for_stack(self) -> bool:
        """Have the worker write its stacks into the flight recorder; False if it cannot."""
        if not self.recorder.stacks_are_to_be_had:
            return False
        try:
            self._signal(STACK_SIGNAL)
            # One that is stopped has to run for it; it is about to be killed.
            self._signal(signal.SIGCONT)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def note_interruption(self, task: int, limit: float | None, left: float | None) -> None:
        """Note for the worker which task is to be interrupted, and why."""
        self.recorder.interrupt(task, limit, left)

    def signal_interruption(self) -> None:
        """Have the worker raise in its main thread, if it runs that task."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            self._signal(INTERRUPT_SIGNAL)

    def _kill_group(self) -> None:
        if self._pid_is_ours():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                # PermissionError: not one member may be signalled; see kill().
                os.killpg(self.pid, signal.SIGKILL)

    def _pid_is_ours(self) -> bool:
        """Whether the pid is still the worker's, or nobody's but its group's (I15)."""
        try:
            self._signal(0)
            return True
        except PermissionError:
            return True  # It lives.
        except ProcessLookupError:
            pass
        # Reaped. As long as the group has members the kernel gives its number to nobody; a
        # process with that very number is then a stranger, made after the group was empty.
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False

    def _signal(self, number: int) -> None:
        if hasattr(signal, "pidfd_send_signal"):
            try:
                signal.pidfd_send_signal(self.watch, number)
                return
            except OSError as error:
                if isinstance(error, (ProcessLookupError, PermissionError)):
                    raise
                # The watch is a sentinel: see open_death_watch().
        if self._poll() is not None:
            raise ProcessLookupError(self.pid)
        # Our own child, not reaped: the pid is its own. Or a server's, which writes its status the
        # moment that it has reaped it; without pidfds there is no better.
        os.kill(self.pid, number)

    # ------------------------------------------------------------------ death

    def collect(self) -> bool:
        """After its death: try to collect the exit status; False if it may yet come (I5)."""
        # Grandchildren go with it, while the group is known to be the worker's.
        self._kill_group()
        if self._via_server:
            return self._collect_from_server()
        self._exitcode = self._poll()
        if self._exitcode is None:
            # Somebody else has collected it; or a debugger has it, and it will be: see orphans.
            self._exitcode = laststatus.exitcode(self.pid, self.watch)
        return self._exitcode is not None or self._is_closed()

    def _poll(self) -> int | None:
        try:
            return self._process.exitcode
        except ValueError:
            return None  # Closed by an application that tidies up all its active_children().

    def _is_closed(self) -> bool:
        return getattr(self._process, "_closed", False) is True

    def _collect_from_server(self) -> bool:
        if self._exitcode is None:
            self._exitcode = laststatus.exitcode(self.pid, self.watch)
        if self._exitcode is not None:
            return True
        # Not by Process.exitcode: for a status that a killed server never wrote it says 255.
        source = self.status_source
        if source is None:
            return True
        try:
            os.set_blocking(source, False)
            status = os.read(source, _STATUS.size)
        except BlockingIOError:
            return False
        if len(status) == _STATUS.size:
            self._exitcode = _STATUS.unpack(status)[0]
        elif (popen := getattr(self._process, "_popen", None)) is not None:
            # Read by multiprocessing itself, which polls all children when it starts one; or
            # never written.
            known = popen.returncode
            self._exitcode = None if known == 255 else known
        return True

    @property
    def exitcode(self) -> int | None:
        """As in ``multiprocessing``; None while, or if, it is not known."""
        return self._exitcode

    @property
    def status_source(self) -> int | None:
        """What gets readable when a late exit status has come, None if nothing does."""
        if self._status is not None:
            return int(self._status.descriptor)
        return self._process.sentinel if self._via_server and not self._is_closed() else None

    # ------------------------------------------------------------------ the end

    def release(self) -> None:
        """Close everything. The descriptors are watched by nobody any more (I6)."""
        del self.data  # Closed with the last reference: see warmpool.lease.
        self._lifeline.close()
        self.recorder.close()
        if self._tray is not None:
            self._tray.close()
        self._status = None
        watch, self.watch = self.watch, -1  # Noted first: a fork may come in between.
        if self._orphans is not None:
            self._orphans.take(watch)
        else:
            os.close(watch)
        if self._is_closed():
            return
        popen = getattr(self._process, "_popen", None)
        if popen is not None and popen.returncode is None:
            # The status is lost. Process objects without one are kept by multiprocessing for
            # ever, and joined, blocking, at exit.
            popen.returncode = 255 if self._exitcode is None else self._exitcode
        self._process.join(0)
        self._process.close()

    def close_after_fork(self) -> None:
        """See :mod:`warmpool.forkguard`."""
        if self.watch >= 0:  # Else released, and the number may be another's.
            data = getattr(self, "data", None)
            if data is not None:  # Else it is being released at this moment.
                data.close()
            self._lifeline.close()
            self.recorder.close()
            if self._tray is not None:
                self._tray.close()
            os.close(self.watch)
            # multiprocessing would try to join it at the end of the copy, whose child it is not.
            _children.discard(self._process)
