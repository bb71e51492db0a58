"""The small interface behind which all subjects look alike."""

import enum
from abc import ABC, abstractmethod
from concurrent.futures import Executor, Future
from importlib.util import find_spec
from typing import ClassVar, Protocol

from benchmarks import tasks
from benchmarks.stamp import Stamp

# Longer than any wait in a run that goes well; `guard.step` is the limit proper.
PATIENCE = 30.0


class Ability(enum.Enum):
    """What a figure asks of a subject; who cannot do it gets a dash."""

    CALL = "one task, there and back"
    FLOOD = "many tasks at once"
    READY = "tells when its workers are ready"
    DEATH = "tells that a worker died"
    REPLACE = "goes on after a worker died"
    LIMIT = "ends a task that runs too long"


class Session(Protocol):
    """An open subject: a pool or a connection, with its workers."""

    def call(self) -> None:
        """Run one no-op task and wait for its result."""

    def flood(self, count: int) -> None:
        """Hand over `count` no-op tasks from this thread, then wait for all."""

    def wait_ready(self) -> None:
        """Return once the workers are ready; a session without READY runs a task instead."""

    def die(self, stamp: Stamp) -> None:
        """Have a worker mark the instant and kill itself; return as soon as that is known."""

    def revive(self) -> None:
        """After `die`: do what a caller has to do before the next `call`."""

    def overrun(self, stamp: Stamp, limit: float) -> None:
        """Have a task mark its start and exceed `limit`; return once the caller is told so."""

    def close(self) -> None: ...


class Subject(ABC):
    """A way to run tasks in other processes."""

    name: ClassVar[str]
    title: ClassVar[str]
    package: ClassVar[str | None] = None  # what to install, and whose version is reported
    abilities: ClassVar[frozenset[Ability]]
    start_methods: ClassVar[frozenset[str]] = frozenset({"forkserver", "spawn", "fork"})

    @abstractmethod
    def open(self, workers: int, start_method: str) -> Session: ...

    def why_absent(self) -> str | None:
        """Why this subject cannot be measured here, or None if it can."""
        if self.package is None:
            return None
        spec = find_spec(self.package)
        # Without an origin it is a mere folder of that name, such as the package's cache.
        if spec is None or spec.origin is None:
            return f"{self.package} is not installed"
        return None


class ExecutorSession:
    """Any `concurrent.futures.Executor`."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def call(self) -> None:
        self.executor.submit(tasks.noop).result()

    def flood(self, count: int) -> None:
        submit = self.executor.submit
        futures = [submit(tasks.noop) for _ in range(count)]
        # Asked one by one: a result may be decoded only in the thread that asks.
        for future in futures:
            future.result()

    def wait_ready(self) -> None:
        self.call()

    def die(self, stamp: Stamp) -> None:
        self._expect_failure(self.executor.submit(tasks.die, stamp.path))

    def revive(self) -> None:
        """Nothing to do, for an executor that goes on."""

    def overrun(self, stamp: Stamp, limit: float) -> None:
        raise NotImplementedError(f"{type(self.executor).__name__} has no time limit")

    def close(self) -> None:
        self.executor.shutdown(wait=True)

    @staticmethod
    def _expect_failure(future: "Future[None]") -> None:
        if future.exception(PATIENCE) is None:
            raise RuntimeError("the task was meant to fail, and returned")
