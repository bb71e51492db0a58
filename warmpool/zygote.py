"""``fork``: a copy of the host, made once, forks the workers.

Were each worker forked from the host itself, it would be copied at a moment that nobody chose, with
whatever locks and half-made pipes the other threads had just then. So the host is copied once, in
the pool's constructor, on the thread of its caller; the copy, the zygote, has one thread and does
nothing but fork workers and collect them (see :mod:`warmpool.copied`).

The link to it is one end of a pair of sockets, which nobody but the host holds: at its end of file
the zygote ends. A zygote that died is replaced by another copy, made on the launcher's thread.
"""

from __future__ import annotations

import array
import contextlib
import os
import signal
import socket
import struct
import threading
import time
from multiprocessing import context
from multiprocessing.process import BaseProcess
from typing import Any

from warmpool import child, copied, forkguard, mending, payload, servers

_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
# The host may have given SIGPIPE its default again, and is not to die of a dead zygote.


class Zygote:
    """The host's side of one. Making it copies the host.

    Args:
        initializer: The workers'; they inherit it.

    Raises:
        OSError: The system has no process, descriptor or memory left.
    """

    def __init__(self, initializer: payload.Initializer) -> None:
        # Two threads may ask: the heir of a launcher that hung, and that one.
        self._sending = threading.Lock()
        give_up_at = time.monotonic() + forkguard.QUIET_PATIENCE
        while True:
            forkguard.wait_for_quiet(give_up_at)
            mending.flush_strange_streams()
            self._copy(initializer)
            if time.monotonic() >= give_up_at or forkguard.is_quiet():
                break
            # Another thread may have begun between the look and the fork.
            self.end()

    def _copy(self, initializer: payload.Initializer) -> None:
        # All of them: a handler of the host's (an arbiter's SIGTERM, say) must not run in the copy.
        everything = signal.valid_signals()
        with forkguard.signals_blocked(everything) as mask, forkguard.making():
            self._link, theirs = socket.socketpair()
            with theirs:
                # Its hook closes the copy of our end, in this copy of the host as in all others.
                forkguard.enroll(self)
                try:
                    pid = os.fork()
                except BaseException:
                    self._link.close()
                    raise
                if pid == 0:
                    copied.live(theirs, initializer, mask)
        self.process = servers.ServerProcess(pid)

    def ask(self, body: bytes, descriptors: list[int]) -> None:
        """Ask for a worker.

        Raises:
            OSError: The zygote is dead.
        """
        message = struct.pack(copied.HEADER, len(body)) + body
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        with self._sending:
            sent = self._link.sendmsg([message], [rights], _NO_SIGNAL)
            self._link.sendall(message[sent:], _NO_SIGNAL)

    def end(self) -> None:
        """End it."""
        # First: by this one ends that may not be killed.
        self._link.close()
        self.process.end()

    def close_after_fork(self) -> None:
        """See :mod:`warmpool.forkguard`."""
        self._link.close()


class _Popen(servers.Popen):
    """As its base, but for the zygote it asks."""

    method = "fork"
    DupFd = copied.Handed  # type: ignore[assignment]

    def _launch(self, process_obj: _Process) -> None:
        body = servers.dump(self, process_obj)
        with contextlib.ExitStack() as theirs:
            with forkguard.making():
                self.sentinel, status = os.pipe()
                parent, alive = os.pipe()
                self.keep(self.sentinel, alive)
            theirs.callback(os.close, status)
            theirs.callback(os.close, parent)
            process_obj.zygote.ask(body, [status, parent, *self._fds])
        self.read_pid()


class _Process(context.ForkProcess):
    """A process that is forked by a given zygote."""

    def __init__(self, zygote: Zygote, endpoints: child.Endpoints, name: str) -> None:
        super().__init__(target=copied.main, args=(endpoints,), name=name, daemon=False)
        self.zygote = zygote

    @staticmethod
    def _Popen(process_obj: Any) -> _Popen:  # noqa: N802 - multiprocessing's name
        return _Popen(process_obj)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["zygote"]
        return state


class Fork:
    """See :class:`warmpool.start.StartMethod`."""

    name = "fork"
    via_server = True
    pickles = False

    def __init__(self) -> None:
        self._initializer = payload.Initializer(None)
        self._making = threading.Lock()
        self._zygote: Zygote | None = None
        self._closed = False

    def open(self, initializer: payload.Initializer) -> None:
        self._initializer = initializer
        # No process left, say: it is tried again at the first start, whose error is reported.
        with contextlib.suppress(Exception):
            self._living_zygote()

    def _living_zygote(self) -> Zygote:
        with self._making:
            if self._zygote is not None and self._zygote.process.has_died():
                self._forget()
            if self._zygote is None:
                self._zygote = Zygote(self._initializer)
            zygote = self._zygote
        if self._closed:
            # The thread of a start that was left to itself comes to life when all is over.
            self._forget()
            raise ProcessLookupError("the pool has ended")
        return zygote

    def _forget(self) -> None:
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            zygote.end()

    def start(self, endpoints: child.Endpoints, name: str) -> BaseProcess:
        process = _Process(self._living_zygote(), endpoints, name)
        process.start()
        return process

    def break_off(self) -> None:
        # A start waits for the zygote's answer: its death is one.
        if (zygote := self._zygote) is not None:
            zygote.process.kill()

    def close(self) -> None:
        self._closed = True
        self._forget()
        self._initializer = payload.Initializer(None)
