"""``forkserver``: a fresh process, without the host's threads, forks the workers."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import context, forkserver, util
from multiprocessing.process import BaseProcess
from typing import Any

from warmpool import child, forkguard, preparation, servers
from warmpool.plan import News, Plan, refuse_reload
from warmpool.tie import Tie

_SHARED = ("warmpool.child", "multiprocessing.popen_forkserver", "pkgutil", "traceback")
"""What each worker would import by itself: as it starts, or at the first error of a task."""


def _locals_of(function: Callable[..., Any], error: BaseException) -> Iterator[dict[str, Any]]:
    """What a call of this function had in its variables as the error passed through it.

    There, and nowhere else, is what the standard library has made, and knows no more.
    """
    at = error.__traceback__
    while at is not None:
        if at.tb_frame.f_code is function.__code__:
            yield at.tb_frame.f_locals
        at = at.tb_next


def _close_first_pipe(error: OSError) -> None:
    """Close what the standard library has made for a request."""
    # It makes two pipes, and if the second is not to be had, nobody closes the first.
    for made in _locals_of(forkserver.ForkServer.connect_to_new_process, error):
        if "parent_r" in made and "child_r" not in made:
            os.close(made["parent_r"])
            os.close(made["child_w"])


def _close_half_made(error: BaseException) -> None:
    """Close what the standard library has made for a server that it could not start."""
    ensure_running = forkserver.ForkServer.ensure_running
    for made in _locals_of(ensure_running, error):
        if "address" in made and not util.is_abstract_socket_namespace(made["address"]):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(made["address"])
        # From 3.14 on there is a second pipe, with the same gap between the two.
        if "authkey_r" not in ensure_running.__code__.co_varnames or "alive_r" not in made:
            continue
        if "authkey_r" not in made:
            os.close(made["alive_r"])
            os.close(made["alive_w"])
        elif "pid" in made:
            # It was dead before it could be told the key: see _bury_stillborn().
            os.close(made["alive_w"])


def _bury_stillborn(error: BaseException) -> None:
    """Collect a server of which the standard library knows no more. Not to be done while making."""
    for made in _locals_of(forkserver.ForkServer.ensure_running, error):
        if "pid" in made:
            servers.ServerProcess(made["pid"]).end()


@contextlib.contextmanager
def _collectable() -> Iterator[None]:
    # A server that inherits a mask with SIGCHLD in it collects nobody.
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Server(forkserver.ForkServer):
    """A fork server of one pool's own.

    The one that ``multiprocessing`` shares cannot be killed when it hangs without harm to others,
    and would hand its blocked SIGINT on to processes that are none of ours.
    """

    _forkserver_address: str | None
    _forkserver_alive_fd: int | None
    _forkserver_pid: int | None

    def __init__(self) -> None:
        super().__init__()
        # What the application told the shared one to preload counts here too.
        shared: list[str] = getattr(forkserver._forkserver, "_preload_modules", [])
        # But not the main module, which it says by itself, and which CPython really imports in its
        # server from 3.14 on. That would fork beside threads that this import leaves, and a pool
        # that is made in there would be one of the server's, which no worker could use.
        others = [name for name in shared if name != "__main__"]
        self.set_forkserver_preload([*others, *_SHARED])
        # The heir of a launcher that hung may be here beside it.
        self._making = threading.Lock()
        self._closed = False
        self._tie: Tie | None = None
        self.process: servers.ServerProcess | None = None
        forkguard.enroll(self)

    def ensure_running(self) -> None:
        """Have a server that lives, as far as can be told."""
        with self._making:
            # The base would notice a death too, leave the socket's name behind, and take a status
            # that somebody else's waitpid(-1) has collected for an error at each start.
            if self.process is not None and self.process.has_died():
                self.forget()
            if self.process is None:
                try:
                    with forkguard.making(), _collectable():
                        self._launch()
                except BaseException as error:
                    _bury_stillborn(error)
                    raise
                assert self._forkserver_pid is not None
                self.process = servers.ServerProcess(self._forkserver_pid)
        if self._closed:
            # The thread of a start that was left to itself comes to life when all is over.
            self.forget()
            raise ProcessLookupError("the pool has ended")

    def _launch(self) -> None:
        tie = Tie()
        try:
            super().ensure_running()
            assert self._forkserver_pid is not None
            tie.fasten(self._forkserver_pid)
        except BaseException as error:
            tie.close()
            _close_half_made(error)
            raise
        self._tie = tie

    def connect_to_new_process(self, fds: Sequence[int]) -> tuple[int, int]:
        """As the base does, without what that leaves behind when no descriptor is left."""
        try:
            return super().connect_to_new_process(fds)
        except OSError as error:
            _close_first_pipe(error)
            raise

    def close(self) -> None:
        """End it for good."""
        self._closed = True
        self.forget()

    def forget(self) -> None:
        """End it; the next start makes another."""
        # First: a server that may not be killed ends by this, once its workers have.
        self.close_after_fork()
        address = self._forkserver_address
        if address is not None and not util.is_abstract_socket_namespace(address):
            # The standard library leaves it behind.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)
        process, self.process = self.process, None
        self._forkserver_address = self._forkserver_pid = None
        if process is not None:
            process.end()
        tie, self._tie = self._tie, None
        if tie is not None:
            tie.close()

    def close_after_fork(self) -> None:
        """See :mod:`warmpool.forkguard`. A server ends when all copies of this are closed."""
        alive, self._forkserver_alive_fd = self._forkserver_alive_fd, None
        if alive is not None:
            os.close(alive)


class _Popen(servers.Popen):
    """As its base, but for the server it asks."""

    def _launch(self, process_obj: _Process) -> None:
        early = process_obj.endpoints.early
        body = preparation.dump(self, process_obj, process_obj.endpoints)
        reading, writing = process_obj.server.connect_to_new_process(self._fds)
        self.keep_status(reading)
        # The child takes the end of file of this one for the end of its parent.
        self.keep(writing)
        self.read_pid()
        if early is not None:
            # It ties itself when it has read what follows: to its group, and after this.
            early.tie(self.pid)
        servers.write(writing, body)


class _Process(context.ForkServerProcess):
    """A process that is forked by a given server."""

    def __init__(self, server: _Server, endpoints: child.Endpoints, name: str) -> None:
        super().__init__(target=child.main, args=(endpoints,), name=name, daemon=False)
        self.server = server
        self.endpoints = endpoints

    @staticmethod
    def _Popen(process_obj: Any) -> _Popen:  # noqa: N802 - multiprocessing's name
        return _Popen(process_obj)

    def __reduce__(self) -> tuple[Any, ...]:
        return preparation.plain(self, context.ForkServerProcess, "server", "endpoints")


class ForkServer:
    """See :class:`warmpool.start.StartMethod`."""

    name = "forkserver"
    via_server = True
    pickles = True

    def __init__(self) -> None:
        self._server = _Server()
        self._preload: bytes | None = None

    def open(self, plan: Plan, news: News) -> None:
        self._preload = plan.pickled_preload

    def start(self, endpoints: child.Endpoints, name: str, ordered_at: float) -> BaseProcess:
        endpoints.preload = self._preload
        with forkguard.signals_blocked():
            process = _Process(self._server, endpoints, name)
            process.start()
        return process

    def renew(self) -> None:
        pass

    def reload(self) -> None:
        refuse_reload(self.name)

    def abandon(self) -> None:
        pass

    def break_off(self) -> None:
        # A start waits for the server's answer: its death is one.
        if (process := self._server.process) is not None:
            process.kill()

    def close(self) -> None:
        self._server.close()
