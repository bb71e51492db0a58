"""How simulated workers are started, and what the host holds of one: births and burials."""

from __future__ import annotations

import errno
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.simulation.kernel import File, Pipe, Process, Watch
from tests.simulation.machine import SimThread
from tests.simulation.recorder import Recorder
from tests.simulation.streams import Socket, Stream, Tray
from tests.simulation.weather import START_FATES
from tests.simulation.worker import Worker
from warmpool import process, servers
from warmpool.orphans import Orphans
from warmpool.plan import News, Plan

if TYPE_CHECKING:
    from tests.simulation.world import World

ROOMS = (1 << 16, 1 << 17, 208 << 10)
"""Bytes that a channel takes."""
TRAYS = (3, 278)
"""Tasks for which a tray has room."""


class Lifeline:
    """The host's end of a channel on which nobody writes; its end is the worker's."""

    def __init__(self, world: World) -> None:
        self._kernel = world.kernel
        self._fd = world.kernel.open(File())
        self.ended: Callable[[], object] = lambda: None

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._kernel.close(fd)
            self.ended()


class Child:
    """What ``multiprocessing`` holds of a process; see ``BaseProcess``."""

    def __init__(self, world: World, own: Process, via_server: bool) -> None:
        self._world = world
        self._machine = world.machine
        self._process = own
        self._via_server = via_server
        self._data = bytearray()
        self._pipe = Pipe(self._data, True)
        self._status: int | None = None
        self._closed = False
        self._popen = SimpleNamespace(returncode=None)
        self.pid = own.pid
        self.sentinel = world.kernel.open(self._pipe)

    def died(self, fate: str) -> None:
        """Its status comes: at once, late, or never."""
        machine = self._machine
        delay = 0.0
        if fate == "status late":
            delay = machine.rng.choice((0.001, 0.02, 0.2, 1.0))
        if fate == "status lost":
            machine.after(machine.rng.choice((0.0, 0.05)), self._lose)
        elif fate != "status never":
            machine.after(delay, self._tell)
        else:
            machine.after(60.0, self._lose)  # By then whoever had it is gone.

    def _tell(self) -> None:
        self._status = self._process.status
        if self._via_server:
            # The server reaps it first.
            self._process.reap()
            assert self._status is not None
            self._data += self._status.to_bytes(8, "little", signed=True)
            self._world.kernel.changed()

    def _lose(self) -> None:
        if not self._process.is_reaped:
            self._process.reap()
        self._pipe.at_end = True
        self._world.kernel.changed()

    # ------------------------------------------------------------------ what is asked of it

    @property
    def exitcode(self) -> int | None:
        if self._closed:
            raise ValueError("process object is closed")
        self._machine.step()
        if self._via_server:
            self._machine.fail("the status of a server's child is not to be asked for so")
        if self._status is not None:
            self._popen.returncode = self._status
            if not self._process.is_reaped:
                self._process.reap()
        return self._popen.returncode

    def join(self, timeout: float | None = None) -> None:
        assert timeout == 0 or self._popen.returncode is not None, "to join it may block (I3)"

    def close(self) -> None:
        if self._popen.returncode is None and not self._via_server:
            raise ValueError("cannot close a process while it is still running")
        if not self._closed:
            self._closed = True
            self._world.kernel.close(self.sentinel)
            if not self._process.is_reaped and not self._process.is_alive:
                self._process.reap()  # By whoever comes by.


class Method:
    """A start method; see :class:`warmpool.start.StartMethod`.

    Args:
        world: Where.
        name: One of those that there are.
        reloads: Whether it has a template.
    """

    pickles = True

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.via_server = name != "spawn"
        self._world = world
        self._machine = world.machine
        self._news: News | None = None
        self._server: Process | None = None
        self._starting: list[SimThread] = []
        # Several, if one does not notice at once that it was broken off.
        self._broken_off: set[SimThread] = set()
        self._is_over = False

    def open(self, plan: Plan, news: News) -> None:
        self._news = news
        if self.via_server:
            self._start_server()
        share = self._world.most_server_deaths / 3600.0
        if self.via_server and share:
            self._machine.after(self._machine.rng.expovariate(share), self._maybe_die)

    def start(self, endpoints: Any, name: str, ordered_at: float) -> Child:
        machine, rng, world = self._machine, self._machine.rng, self._world
        machine.step()
        fate = world.weather.fate(rng, world.weather.starts, START_FATES)
        if fate != "well":
            world.faults += 1
            machine.note(name, "start:", fate)
        if fate == "fails":
            raise OSError(errno.EAGAIN, "no process is to be had")
        if self.via_server and self._server is None:
            self._start_server()
        if fate == "server dies":
            self._server_dies()
        seconds = world.start_seconds * rng.uniform(0.5, 1.5)
        if fate == "is slow":
            seconds = rng.uniform(0.1, 1.5 * world.init_timeout)
        elif fate == "hangs":
            seconds = 1e6
        me = machine.current
        self._starting.append(me)
        machine.block(machine.now + seconds)
        self._starting.remove(me)
        if me in self._broken_off:
            self._broken_off.discard(me)
            if rng.random() < 0.3:
                machine.sleep(rng.uniform(0.0, 5.0))  # It does not notice at once.
            raise OSError(errno.EPIPE, "the start was broken off")
        if self.via_server and self._server is None:
            raise EOFError("the server has died")
        return world.give_birth(endpoints.early, self.via_server)

    def renew(self) -> None:
        self._machine.step()
        if self._server is None and not self._is_over:
            self._machine.sleep(self._world.start_seconds)
            if self._server is None:
                self._start_server()

    def reload(self) -> None:
        if self.name != "template":
            raise RuntimeError("no template")
        self._machine.sleep(self._world.init_seconds)

    def break_off(self) -> None:
        self._server_dies()
        for thread in self._starting:
            self._broken_off.add(thread)
            self._machine.wake(thread)

    def abandon(self) -> None:
        self._is_over = True

    def close(self) -> None:
        self._is_over = True
        if self._server is not None:
            self._server_dies()

    # ------------------------------------------------------------------ what starts them

    def _start_server(self) -> None:
        self._server = self._world.kernel.fork("server")
        self._machine.note("server", "starts as", self._server.pid)
        if self.name == "template":
            watch = self._world.kernel.open(Watch(self._server))
            assert self._news is not None
            self._news.server_started(servers.Watch(watch))

    def _server_dies(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            self._machine.note("server", "dies")
            server.end(-9)
            server.reap()

    def _maybe_die(self) -> None:
        if self._is_over:
            return
        world = self._world
        if self._machine.random() * world.most_server_deaths < world.weather.server_deaths:
            world.faults += 1
            self._server_dies()
        share = world.most_server_deaths / 3600.0
        self._machine.after(self._machine.rng.expovariate(share), self._maybe_die)


class Ends:
    """What a process is given at its birth."""

    def __init__(self, world: World, number: int, first: bytes, has_tray: bool) -> None:
        self.number = number
        self.stream = Stream(world.kernel, world.machine.rng.choice(ROOMS))
        self.stream.to_worker += first
        self.socket = Socket(world.kernel, self.stream)
        self.lifeline = Lifeline(world)
        self.tray = Tray(world.kernel, world.machine.rng.choice(TRAYS)) if has_tray else None
        self.recorder = Recorder(world, world.beat_interval)

    def close(self) -> None:
        self.socket.close()
        self.lifeline.close()
        self.recorder.close()
        if self.tray is not None:
            self.tray.close()


def make_process(
    world: World,
    number: int,
    start: Callable[[Any, Any, Any], Child],
    first: bytes = b"",
    *,
    via_server: bool,
    orphans: Orphans | None = None,
    has_tray: bool = False,
) -> process.WorkerProcess:
    """In place of ``making.make_process``."""
    ends = Ends(world, number, first, has_tray)
    try:
        child = start(ends, None, ends.tray)
    except BaseException:
        ends.close()
        raise
    own = child._process
    watch = world.kernel.open(Watch(own))
    return process.WorkerProcess(
        number,
        child,  # type: ignore[arg-type]
        watch,
        ends.socket,  # type: ignore[arg-type]
        ends.lifeline,  # type: ignore[arg-type]
        ends.recorder,  # type: ignore[arg-type]
        ends.tray,  # type: ignore[arg-type]
        via_server=via_server,
        orphans=orphans,
    )


def give_birth(world: World, ends: Ends, via_server: bool) -> Child:
    """Fork a worker."""
    own = world.kernel.fork(f"worker {ends.number}")
    worker = Worker(world, ends.number, ends.stream, ends.tray, ends.recorder, own)
    child = Child(world, own, via_server)
    worker.ended = child.died
    ends.lifeline.ended = worker._killed
    world.born(worker)
    return child
