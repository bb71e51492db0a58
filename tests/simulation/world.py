"""A simulated machine with one real pool on it, whose every event is checked.

The pool is made of the product's own code, from ``WarmPool`` to the core. In place of the modules
that wait, and those that touch the system, its modules see those of the simulation for a while.
"""

from __future__ import annotations

import concurrent.futures._base
import contextlib
import errno
import functools
import gc
import io
import logging
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import warmpool
from tests.simulation import method
from tests.simulation.judge import Judge
from tests.simulation.kernel import IN, Kernel
from tests.simulation.machine import Machine, Violation
from tests.simulation.system import modules_of
from tests.simulation.threads import queue_of, threading_of
from tests.simulation.weather import CALM, Weather
from tests.simulation.worker import Worker
from warmpool import (
    answer,
    callbacks,
    fleet,
    forkguard,
    future,
    laststatus,
    launcher,
    lifetime,
    loop,
    memory,
    orphans,
    parker,
    pool,
    process,
    servers,
    supervisor,
    thread,
)
from warmpool import events as ev
from warmpool.core import Core
from warmpool.lifecycle import BUSY, WARM

SEES: dict[Any, tuple[str, ...]] = {
    answer: ("threading",),
    callbacks: ("threading", "queue"),
    future: ("threading",),
    laststatus: ("fcntl", "os", "signal"),
    launcher: ("queue",),
    loop: ("os", "select", "selectors"),
    orphans: ("os", "signal"),
    parker: ("os", "select", "threading"),
    process: ("os", "signal"),
    servers: ("os", "select"),
    thread: ("threading", "queue"),
    concurrent.futures._base: ("threading",),
}
"""Which modules see which of the simulation's. Each that looks at the clock sees its time."""

LOOK = 2.0
"""Seconds between two looks for workers of whom the core has a wrong idea."""
PATIENCE = 5.0
"""Seconds for which it may have that."""

_ROUTINE = {
    ev.HeartbeatsRead,
    ev.MemoryRead,
    ev.ReadHeartbeats,
    ev.ReadMemory,
    ev.TimePassed,
    ev.WarmAwaited,
    ev.Tell,
}
_SHOWN = ("worker", "task", "waiter", "health", "exitcode", "last_started", "outcome")


class World:
    """A machine, a kernel, a judge, and the pool that they are for.

    Args:
        seed: Decides everything.
    """

    def __init__(self, seed: int) -> None:
        self.machine = Machine(seed)
        self.kernel = Kernel(self.machine)
        self.judge = Judge(self)
        self.weather: Weather = CALM
        self.most_server_deaths = 0.0
        """In an hour, in any weather."""
        self.max_workers = 1
        self.max_queue: int | None = None
        self.init_timeout = 60.0
        self.init_seconds = 1.0
        self.start_seconds = 0.01
        self.grace = 5.0
        self.beat_interval = 2.5
        self.method = "forkserver"
        self.shows_status = True
        """Whether the kernel tells everybody the status of a process that is not reaped."""
        self.core: Core | None = None
        self.events = 0
        """What the core has heard."""
        self.births = 0
        self.faults = 0
        self.is_ending = False
        self.cancels = False
        """Whether it was shut down so that waiting tasks are cancelled."""
        self.was_broken = False
        self.frozen: set[int] = set()
        """Workers that did not beat for a while."""
        self.liars: set[int] = set()
        """Workers that said something out of turn."""
        self.grown: set[int] = set()
        self.heartbeat_timeout = 60.0
        self._workers: list[Worker] = []
        self._looked_at = 0.0

    # ------------------------------------------------------------------ weather

    def change(self, weather: Weather) -> None:
        """Let other things go wrong from now on."""
        self.weather = weather
        self.machine.stalls = weather.stalls
        self.kernel.fragmentation = weather.fragmentation
        self.kernel.shortage = weather.shortage

    def stop_host_now_and_then(self, most: float) -> None:
        """Stop the host as often as the weather has it, ``most`` times in an hour."""
        machine = self.machine

        def maybe() -> None:
            if machine.random() * most < self.weather.host_stops:
                self.faults += 1
                machine.stop_host(10.0 ** machine.rng.uniform(-3.0, 1.7))
            machine.after(machine.rng.expovariate(most / 3600.0), maybe)

        if most:
            machine.after(machine.rng.expovariate(most / 3600.0), maybe)

    # ------------------------------------------------------------------ workers

    def give_birth(self, ends: method.Ends, via_server: bool) -> method.Child:
        """See :func:`tests.simulation.method.give_birth`."""
        return method.give_birth(self, ends, via_server)

    def born(self, worker: Worker) -> None:
        """There is one more. Never more than there are slots (I11)."""
        self.births += 1
        self.machine.handled += 1
        self._workers = [one for one in self._workers if one.process.is_alive]
        self._workers.append(worker)
        self.machine.note(f"worker {worker.number}", "is born as", worker.process.pid)
        # One whose start was given up is killed at once by who started it, and is no worker.
        wanted = () if self.core is None else self.core.roster.workers
        living = [one.number for one in self._workers if one.number in wanted]
        if len(living) > self.max_workers:
            raise Violation(f"there are more workers than slots (I11): {living}")

    def living(self) -> list[Worker]:
        """The workers that are alive."""
        return [worker for worker in self._workers if worker.process.is_alive]

    def memory_of(self, pid: int, limit: int) -> int | None:
        """In place of ``memory.used_by``."""
        self.machine.step()
        if self.weather.stalls and self.machine.random() < 0.05:
            self.machine.sleep(self.machine.rng.uniform(0.0, 1.0))
        for worker in self.living():
            if worker.process.pid == pid:
                return worker.memory
        return None

    # ------------------------------------------------------------------ what the core hears

    def watch_core(self, handle: Callable[..., list[ev.Command]]) -> Callable[..., Any]:
        """Check the core after each event, and note what it was."""
        note, mark = self.machine.note, self.machine.mark

        def watched(core: Core, event: ev.Event, now: float) -> list[ev.Command]:
            self.core = core
            commands = handle(core, event, now)
            self.events += 1
            self.machine.handled += 1
            (mark if type(event) in _ROUTINE else note)("event", *_words(event))
            for command in commands:
                (mark if type(command) in _ROUTINE else note)("command", *_words(command))
                if type(command) is ev.ChangeHealth and command.health is ev.Health.BROKEN:
                    self.was_broken = True
            try:
                core.validate()
            except AssertionError as error:
                self.machine.blame(error)
                raise
            if self.machine.now > self._looked_at + LOOK:
                self._looked_at = self.machine.now
                self._look_for_the_forgotten(core)
            return commands

        return watched

    def _look_for_the_forgotten(self, core: Core) -> None:
        """What the core thinks of workers must not differ for long from how they are."""
        now = self.machine.now
        for worker in self.living():
            known = core.roster.workers.get(worker.number)
            if known is None or known.state not in WARM:
                continue
            since = max(known.moved_at, worker.waits_since or now)
            is_over = now > since + PATIENCE + self.machine.stalled_since(since)
            if known.state is BUSY and worker.frozen_since is None and is_over:
                self.machine.fail(
                    f"worker {worker.number} waits for a task, and is thought to have {known.task}"
                )
            since = max(known.ready_at or now, worker.frozen_since or now)
            bound = 2 * self.heartbeat_timeout + PATIENCE + self.machine.stalled_since(since)
            if now > since + bound:
                self.machine.fail(f"worker {worker.number} is silent, and nobody notices")

    def collapsed(self, collapse: BaseException) -> None:
        """The supervisor has met an error that it should never meet."""
        if not self.machine.is_over:
            self.machine.blame(collapse)

    # ------------------------------------------------------------------ in place of the system's

    def open_stat(self, path: str, _mode: str, buffering: int) -> io.BytesIO:
        """In place of ``open()``, of ``/proc/PID/stat``."""
        self.machine.step()
        one = self.kernel.processes.get(int(path.split("/")[2]))
        if one is None or one.is_reaped or not self.shows_status:
            raise FileNotFoundError(errno.ENOENT, "no such process", path)
        status = 0 if one.is_alive else one.wait_status
        fields = ["R" if one.is_alive else "Z", *["0"] * 48, str(status)]
        return io.BytesIO(f"{one.pid} (worker) {' '.join(fields)}".encode())

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Have the product's modules see the simulation's."""
        machine, kernel = self.machine, self.kernel
        seen = modules_of(kernel) | {
            "threading": threading_of(machine),
            "queue": queue_of(machine),
        }
        clock = SimpleNamespace(monotonic=machine.monotonic, sleep=machine.sleep)

        def wait(watches: list[int], timeout: float | None = None) -> list[int]:
            machine.step()
            while not kernel.ready([(watch, IN) for watch in watches]):
                kernel.sleep(dict.fromkeys(watches, IN), None)
            return watches

        class Counter:
            def look(self) -> None:
                """There is none."""

            has_grown = False

        collapse = _Collapse(self.collapsed)
        with contextlib.ExitStack() as stack:
            for name, module in sorted(sys.modules.items()):
                if name.startswith("warmpool.") and getattr(module, "time", None) is time:
                    stack.enter_context(mock.patch.object(module, "time", clock))
            for module, names in SEES.items():
                for name in names:
                    stack.enter_context(mock.patch.object(module, name, seen[name]))
            for module, name, other in (
                (supervisor, "random", SimpleNamespace(Random=lambda: machine.rng)),
                (supervisor.Supervisor, "collapse", collapse),
                (fleet, "OomCounter", Counter),
                (launcher, "wait", wait),
                (launcher, "make_process", functools.partial(method.make_process, self)),
                (memory, "used_by", self.memory_of),
                (laststatus, "open", self.open_stat),
                (forkguard, "enroll", lambda _guarded: None),
                (pool, "find_start_method", lambda name: method.Method(self, name)),
                (lifetime, "_running", {}),
                (Core, "handle", self.watch_core(Core.handle)),
                # wait() and as_completed() take futures in the order of their addresses.
                (future.TaskFuture, "__hash__", lambda one: hash(one._task)),
                (concurrent.futures._base, "time", clock),
                (concurrent.futures._base, "id", lambda one: getattr(one, "_task", 0)),
            ):
                stack.enter_context(mock.patch.object(module, name, other, create=True))
            stack.enter_context(self._logs())
            stack.enter_context(_collected())
            yield

    @contextlib.contextmanager
    def _logs(self) -> Iterator[None]:
        """Have what the pool logs in the story."""
        note = self.machine.note

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                note("log", record.getMessage())

        handler, logger = Handler(), callbacks.logger
        before = logger.propagate, logger.level
        logger.propagate = False
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.propagate, level = before
            logger.setLevel(level)

    def run(self, main: Callable[[], object]) -> None:
        """Run a simulation.

        Raises:
            Violation: A promise is broken.
        """
        with self.installed():
            self.machine.run(main)

    def make_pool(self, **options: Any) -> warmpool.WarmPool:
        """The pool."""
        return warmpool.WarmPool(
            self.max_workers,
            start_method=self.method,
            init_timeout=self.init_timeout,
            grace=self.grace,
            max_queue=self.max_queue,
            name="pool",
            **options,
        )


class _Collapse:
    """A supervisor's ``collapse``; tells at once when it is set."""

    def __init__(self, tell: Callable[[BaseException], None]) -> None:
        self._tell = tell

    def __get__(self, owner: Any, _kind: Any) -> Any:
        return None if owner is None else owner.__dict__.get("collapse")

    def __set__(self, owner: Any, value: BaseException | None) -> None:
        owner.__dict__["collapse"] = value
        if value is not None:
            self._tell(value)


@contextlib.contextmanager
def _collected() -> Iterator[None]:
    """Without the garbage collector, whose time comes when it comes: not at the same step twice."""
    gc.collect()
    gc.freeze()  # To look at what there was before takes longer than all the rest.
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()
        gc.unfreeze()


def _words(value: Any) -> Iterator[Any]:
    yield type(value).__name__
    for name in _SHOWN:
        shown = getattr(value, name, None)
        if isinstance(shown, ev.TaskSpec):
            yield f"task={shown.id}"
        elif shown is not None:
            yield f"{name}={getattr(shown, 'value', shown)}"
    failure = getattr(value, "failure", None)
    if failure is not None:
        yield failure.kind.value
