"""The small interface behind which all subjects look alike."""

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, Protocol

from benchmarks import tasks
from benchmarks.gate import new_gate
from benchmarks.stamp import Stamp

# Longer than any wait in a run that goes well; `guard.step` is the limit proper.
PATIENCE = 60.0
# For pools that never use all of their workers at once, and so never have so many tasks waiting.
ASSEMBLY = 10.0


class NotAvailableError(Exception):
    """A subject, or what a figure needs, does not exist here: no failure, and no reading."""


class Ability(enum.Enum):
    """What a figure asks of a subject; who cannot do it gets a dash."""

    CALL = "one task, there and back"
    FLOOD = "many tasks at once"
    MAP = "a function over many items, in chunks"
    VALUES = "large arguments and results"
    QUEUE = "tasks wait in it"
    READY = "tells when its workers are ready"
    DEATH = "tells that a worker died"
    REPLACE = "goes on after a worker died"
    LIMIT = "ends a task that runs too long"
    FRESH = "a new process for every task"
    DEMAND = "starts a worker when a task needs it, and not before"
    PRELOAD = "new workers share what was loaded once"


@dataclass(frozen=True)
class Opening:
    """How a figure wants its subject."""

    workers: int = 1
    start_method: str = "forkserver"
    fresh: bool = False  # a process for every task
    demand: bool = False  # with `fresh`: and none ahead of demand
    values: bool = False  # for large values (a pool is the same for all)
    preload: float | None = None  # seconds; shared by the workers


class Session(Protocol):
    """An open subject: a pool or a connection, with its workers."""

    def call(self) -> None:
        """Run one no-op task and wait for its result."""

    def flood(self, count: int) -> None:
        """Hand over `count` no-op tasks from this thread, then wait for all."""

    def map(self, count: int, chunk: int) -> None:
        """Run `tasks.same` over `count` numbers, `chunk` of them in one message."""

    def take(self, kind: str, megabytes: int) -> None:
        """Have a worker take a large value (see `tasks.made`)."""

    def give(self, kind: str, megabytes: int) -> None:
        """Have a worker give one."""

    def wait_ready(self) -> None:
        """Return once the workers are ready; a session without READY runs a task instead."""

    def assemble(self, workers: int) -> None:
        """Return once all `workers` are there, also where they are started by demand only."""

    def vacate(self) -> None:
        """Return once no worker is there, in a session with DEMAND."""

    def die(self, stamp: Stamp) -> None:
        """Have a worker mark the instant and kill itself; return as soon as that is known."""

    def revive(self) -> None:
        """After `die`: do what a caller has to do before the next `call`."""

    def overrun(self, lane: int, stamp: Stamp, limit: float) -> None:
        """Have a task mark its start and exceed `limit`; return once the caller is told so.

        Called by several threads at once, with a `lane` each, from 0.
        """

    def close(self) -> None: ...


class QueueSession(Session, Protocol):
    """An open subject in which tasks wait."""

    def submit(self, function: Any, *arguments: Any) -> Any:
        """Hand over a task; what is returned is for `wait`."""

    def wait(self, handle: Any) -> Any:
        """The task's result."""


class Subject(ABC):
    """A way to run tasks in other processes."""

    name: ClassVar[str]
    title: ClassVar[str]
    package: ClassVar[str | None] = None  # what to install, and whose version is reported
    abilities: ClassVar[frozenset[Ability]]
    start_methods: ClassVar[frozenset[str]] = frozenset({"forkserver", "spawn", "fork"})

    @abstractmethod
    def open(self, opening: Opening) -> Session: ...

    @property
    def preloads(self) -> bool:
        return Ability.PRELOAD in self.abilities

    def why_absent(self) -> str | None:
        """Why this subject cannot be measured here, or None if it can."""
        if self.package is None:
            return None
        spec = find_spec(self.package)
        # Without an origin it is a mere folder of that name, such as the package's cache.
        if spec is None or spec.origin is None:
            return f"{self.package} is not installed"
        return None


class PoolSession(ABC):
    """Any pool: all of a session that can be told by handing over a task and waiting for it."""

    @abstractmethod
    def submit(self, function: Any, *arguments: Any) -> Any: ...

    @abstractmethod
    def wait(self, handle: Any) -> Any: ...

    @abstractmethod
    def map_over(self, items: Sequence[int], chunk: int) -> list[int]: ...

    @abstractmethod
    def close(self) -> None: ...

    def call(self) -> None:
        self.wait(self.submit(tasks.noop))

    def flood(self, count: int) -> None:
        submit, wait = self.submit, self.wait
        handles = [submit(tasks.noop) for _ in range(count)]
        # Asked one by one: a result may be decoded only in the thread that asks.
        for handle in handles:
            wait(handle)

    def map(self, count: int, chunk: int) -> None:
        if self.map_over(range(count), chunk) != list(range(count)):
            raise RuntimeError("the map's results are others")

    def take(self, kind: str, megabytes: int) -> None:
        value = tasks.made(kind, megabytes)
        if self.wait(self.submit(tasks.length, value)) != len(value):
            raise RuntimeError("another value arrived")

    def give(self, kind: str, megabytes: int) -> None:
        value = self.wait(self.submit(tasks.made, kind, megabytes))
        if len(value) != len(tasks.made(kind, megabytes)):
            raise RuntimeError("another value arrived")

    def wait_ready(self) -> None:
        self.call()

    def assemble(self, workers: int) -> None:
        with new_gate() as gate:
            handles = [self.submit(tasks.hold, gate.path) for _ in range(workers)]
            gate.arrived(workers, ASSEMBLY)
            gate.open()
            for handle in handles:
                self.wait(handle)

    def vacate(self) -> None:
        raise NotImplementedError(f"{type(self).__name__} keeps workers")

    def die(self, stamp: Stamp) -> None:
        self.expect_failure(self.submit(tasks.die, stamp.path))

    def revive(self) -> None:  # noqa: B027 (a pool that goes on has nothing to do)
        pass

    def overrun(self, lane: int, stamp: Stamp, limit: float) -> None:
        self.expect_failure(self.submit_limited(limit, tasks.oversleep, stamp.path, limit + 60.0))

    def submit_limited(self, limit: float, function: Any, *arguments: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no time limit")

    def expect_failure(self, handle: Any) -> None:
        try:
            self.wait(handle)
        except Exception:
            return
        raise RuntimeError("the task was meant to fail, and returned")
