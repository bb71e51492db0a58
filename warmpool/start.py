"""How a worker is started: one replaceable part.

A :class:`StartMethod` makes a started ``multiprocessing`` process of a worker's endpoints. It may
block; it runs on the launcher thread only, and :meth:`StartMethod.break_off` is there to unblock
it. Another method needs a class here and a line in :func:`start_method`.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import threading
from multiprocessing import (
    context,
    forkserver,
    popen_forkserver,
    reduction,
    resource_tracker,
    spawn,
    util,
)
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from warmpool import child, forkguard

AVAILABLE = tuple(
    name
    for name in ("forkserver", "spawn", "fork")
    if name in multiprocessing.get_all_start_methods()
)
"""The start methods here, the default first."""


class StartMethod(Protocol):
    """Starts workers. *Threads:* the launcher's, but for :meth:`break_off`."""

    name: str
    via_server: bool
    """Whether another process than the host is the parent of workers."""
    pickles: bool
    """Whether a worker gets its initializer pickled; else it inherits it."""

    def start(self, endpoints: child.Endpoints, name: str) -> BaseProcess:
        """Start a worker's process.

        Raises:
            Exception: Whatever goes wrong: the system's limits, a server that died, …
        """

    def break_off(self) -> None:
        """Make a start that hangs fail, if that can be done. *Threads:* any; never blocks."""

    def close(self) -> None:
        """Let go of what the method keeps between starts."""


def start_method(name: str) -> StartMethod:
    """The start method of this name.

    Raises:
        ValueError: There is none here.
    """
    if name not in AVAILABLE:
        raise ValueError(f"start_method must be one of {', '.join(AVAILABLE)} here, not {name!r}")
    return _ForkServer() if name == "forkserver" else _Direct(name)


@contextlib.contextmanager
def _sigint_blocked() -> Any:
    # A child inherits the mask through fork and exec, and unblocks SIGINT once it ignores it: a
    # Ctrl-C meant for the host must not hit its imports. The resource tracker is asked for first
    # since starting it unblocks SIGINT (CPython 3.11).
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Direct:
    """``spawn`` and ``fork``: the worker is a child of the host."""

    via_server = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.pickles = name != "fork"
        self._context = multiprocessing.get_context(name)

    def start(self, endpoints: child.Endpoints, name: str) -> BaseProcess:
        # Not daemonic: a task may use multiprocessing itself.
        process: BaseProcess = self._context.Process(  # type: ignore[attr-defined]
            target=child.main, args=(endpoints,), name=name, daemon=False
        )
        guard = contextlib.nullcontext() if self.pickles else forkguard.forking_a_worker()
        with _sigint_blocked(), guard:
            process.start()
        return process

    def break_off(self) -> None:
        # Neither blocks on anything that could be killed: a spawned child's arguments fit the
        # pipe. (They would not with tens of kilobytes in sys.argv; see README, limits.)
        pass

    def close(self) -> None:
        pass


class _Server(forkserver.ForkServer):
    """A fork server of one pool's own.

    The one that ``multiprocessing`` shares cannot be killed when it hangs without harm to others,
    and would hand its blocked SIGINT on to processes that are none of ours.
    """

    def __init__(self) -> None:
        super().__init__()
        # What the application told the shared one to preload counts here too.
        shared: list[str] = getattr(forkserver._forkserver, "_preload_modules", ["__main__"])
        self.set_forkserver_preload([*shared, "warmpool.child", "warmpool.start"])

    @property
    def pid(self) -> int | None:
        pid: int | None = self._forkserver_pid
        return pid

    @property
    def alive_descriptor(self) -> int | None:
        """The server ends when every copy of this one is closed."""
        descriptor: int | None = self._forkserver_alive_fd
        return descriptor

    def unlink(self) -> None:
        """Remove the name of the server's socket, which the standard library leaves behind."""
        address: str | None = self._forkserver_address
        if address is not None and not util.is_abstract_socket_namespace(address):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)

    def forget(self) -> None:
        """Close what belongs to a server that is dead; the next start makes another."""
        if self.alive_descriptor is not None:
            os.close(self.alive_descriptor)
        self.unlink()
        self._forkserver_alive_fd = self._forkserver_address = self._forkserver_pid = None


def _close_all(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class _Popen(popen_forkserver.Popen):
    """As its base, but for the server it asks."""

    def _launch(self, process_obj: _ForkServerProcess) -> None:
        preparation = spawn.get_preparation_data(process_obj.name)
        buffer = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(preparation, buffer)
            reduction.dump(process_obj, buffer)
        finally:
            context.set_spawning_popen(None)
        self.sentinel, writing = process_obj.server.connect_to_new_process(self._fds)  # type: ignore[attr-defined]
        # The child takes the end of file of this one for the end of its parent.
        parent_alive = os.dup(writing)
        self.finalizer = util.Finalize(self, _close_all, (parent_alive, self.sentinel))
        with open(writing, "wb", closefd=True) as file:
            file.write(buffer.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


class _ForkServerProcess(context.ForkServerProcess):
    """A process that is forked by a given server."""

    def __init__(self, server: _Server, endpoints: child.Endpoints, name: str) -> None:
        super().__init__(target=child.main, args=(endpoints,), name=name, daemon=False)
        self.server = server

    @staticmethod
    def _Popen(process_obj: Any) -> _Popen:  # noqa: N802 - multiprocessing's name
        return _Popen(process_obj)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["server"]
        return state


class _ForkServer:
    """``forkserver``: a fresh process, without the host's threads, forks the workers."""

    name = "forkserver"
    via_server = True
    pickles = True

    def __init__(self) -> None:
        self._server = _Server()
        # The watch is used by break_off() on another thread while the launcher's blocks.
        self._lock = threading.Lock()
        self._watched: int | None = None
        self._watch: int | None = None

    def start(self, endpoints: child.Endpoints, name: str) -> BaseProcess:
        with _sigint_blocked():
            self._ensure_server()
            process = _ForkServerProcess(self._server, endpoints, name)
            process.start()
            return process

    def _ensure_server(self) -> None:
        try:
            if self._has_died():
                # The standard library would notice too, and leave the socket's name behind.
                self._server.unlink()
            self._server.ensure_running()
        except ChildProcessError:
            # Dead, and its status was collected by somebody else's waitpid(-1): it would be
            # taken for an error at each start from now on.
            self._server.forget()
            self._server.ensure_running()
        if self._server.pid != self._watched:
            self._close_watch()
            assert self._server.pid is not None
            watch = None
            if hasattr(os, "pidfd_open"):
                with contextlib.suppress(OSError):  # As in process.open_death_watch().
                    watch = os.pidfd_open(self._server.pid)
            with self._lock:
                self._watch, self._watched = watch, self._server.pid

    def _has_died(self) -> bool:
        return self._watch is not None and bool(wait([self._watch], 0))

    def _close_watch(self) -> None:
        with self._lock:
            watch, self._watch, self._watched = self._watch, None, None
        if watch is not None:
            os.close(watch)

    def break_off(self) -> None:
        with self._lock, contextlib.suppress(ProcessLookupError):
            # A start waits for the server's answer: its death is one.
            if self._watch is not None:
                signal.pidfd_send_signal(self._watch, signal.SIGKILL)
            elif self._watched is not None:
                os.kill(self._watched, signal.SIGKILL)

    def close(self) -> None:
        pid = self._server.pid
        if pid is None:
            return
        self.break_off()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        self._close_watch()
        self._server.forget()
