"""``spawn``: each worker is a child of the host, and an interpreter of its own."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from multiprocessing import context, popen_spawn_posix, resource_tracker, spawn, util
from multiprocessing.process import BaseProcess
from typing import Any

from warmpool import child, forkguard, preparation, servers
from warmpool.plan import News, Plan, refuse_reload


class _Popen(popen_spawn_posix.Popen):
    """As its base, but for the order of the worker's arguments and of the steps."""

    def __init__(self, process_obj: Any) -> None:
        # Not the base's, which flushes the host's streams; see servers.Popen.
        self._fds: list[int] = []
        self.returncode: int | None = None
        self.finalizer: Any = None
        self._launch(process_obj)

    def _launch(self, process_obj: _Process) -> None:
        tracker = resource_tracker.getfd()
        assert tracker is not None
        self._fds.append(tracker)
        early = process_obj.endpoints.early
        body = preparation.dump(self, process_obj, process_obj.endpoints)
        with contextlib.ExitStack() as theirs:
            with forkguard.making():
                self.sentinel, alive = os.pipe()
                theirs.callback(os.close, alive)
                kept = servers.Kept(self.sentinel)
                self.finalizer = util.Finalize(self, kept.close)
                reading, writing = os.pipe()
                theirs.callback(os.close, reading)
                # Kept: the child takes the end of file of this one for the end of its parent.
                kept.add(writing)
            command = spawn.get_command_line(tracker_fd=tracker, pipe_handle=reading)
            self._fds += reading, alive
            executable = os.fsencode(spawn.get_executable())
            self.pid = util.spawnv_passfds(executable, command, self._fds)
            if early is not None:
                # It ties itself when it has read its arguments: to its group, and after this.
                early.tie(self.pid)
        # Not before the child's end is closed here: a child that dies before it has read all would
        # leave the host waiting for ever, for a reader that it is itself (cpython#118981).
        process_obj.method.under_way = self.pid
        try:
            servers.write(writing, body)
        finally:
            process_obj.method.under_way = None


class _Process(context.SpawnProcess):
    def __init__(
        self,
        method: Spawn,
        target: Callable[..., None],
        endpoints: preparation.Prepared,
        name: str,
    ) -> None:
        # Not daemonic: a task may use multiprocessing itself.
        super().__init__(target=target, args=(endpoints,), name=name, daemon=False)
        self.method = method
        self.endpoints = endpoints

    @staticmethod
    def _Popen(process_obj: Any) -> _Popen:  # noqa: N802 - multiprocessing's name
        return _Popen(process_obj)

    def __reduce__(self) -> tuple[Any, ...]:
        return preparation.plain(self, context.SpawnProcess, "method", "endpoints")


class Spawn:
    """See :class:`warmpool.start.StartMethod`."""

    name = "spawn"
    via_server = False
    pickles = True

    def __init__(self) -> None:
        self._preload: bytes | None = None
        self.under_way: int | None = None
        # Invariant: a child of the host's that nobody collects meanwhile.

    def open(self, plan: Plan, news: News) -> None:
        self._preload = plan.pickled_preload

    def start(self, endpoints: child.Endpoints, name: str, ordered_at: float) -> BaseProcess:
        endpoints.preload = self._preload
        return self.start_at(child.main, endpoints, name)

    def start_at(
        self, target: Callable[..., None], endpoints: preparation.Prepared, name: str
    ) -> BaseProcess:
        """Start an interpreter of its own at this function, which gets the endpoints."""
        process = _Process(self, target, endpoints, name)
        try:
            with forkguard.signals_blocked():
                process.start()
        except BaseException:
            # A Ctrl-C that waited for the end of that, say: nobody would know of the process.
            if process.pid is not None:
                process.kill()
                process.join()
            raise
        return process

    def renew(self) -> None:
        pass

    def reload(self) -> None:
        refuse_reload(self.name)

    def abandon(self) -> None:
        pass

    def break_off(self) -> None:
        # A start waits for the child to read its arguments; they mostly fit the pipe.
        if (pid := self.under_way) is not None:
            os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        pass
