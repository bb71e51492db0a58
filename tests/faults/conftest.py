"""Pools that many tests share, since a pool costs more to start than most tests to run."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import faults, leaks
from tests.helpers.waiting import BOUND, until
from warmpool import WarmPool, WarmpoolError, config
from warmpool.core import Settings
from warmpool.restart import RestartPolicy

PATIENT = RestartPolicy(first_delay=0.02, longest_delay=0.1, failures_per_slot=1_000_000)
"""Replaces quickly and never gives up: a shared pool fails a hundred times."""

STRICT = RestartPolicy(first_delay=0.02, longest_delay=0.1, failures_per_slot=0)
"""One failed start with no worker warm, and the pool is broken."""


@dataclass
class Reports:
    """What the pool reports of failed workers, as it comes."""

    _queue: queue.SimpleQueue[tuple[WarmpoolError, str]] = field(default_factory=queue.SimpleQueue)

    def emit(self, record: logging.LogRecord) -> None:
        for argument in record.args if isinstance(record.args, tuple) else ():
            if isinstance(argument, WarmpoolError):
                self._queue.put((argument, record.getMessage()))

    def next(self) -> tuple[WarmpoolError, str]:
        """Wait for the next report: the error, and the line that was logged."""
        return self._queue.get(timeout=BOUND)

    def of_worker(self, pid: int) -> tuple[WarmpoolError, str]:
        """Wait for the report of one worker."""
        while True:
            error, line = self.next()
            if getattr(error, "pid", None) == pid:
                return error, line

    def count(self) -> int:
        return self._queue.qsize()


class _Handler(logging.Handler):
    def __init__(self, reports: Reports) -> None:
        super().__init__()
        self.emit = reports.emit  # type: ignore[method-assign]


@pytest.fixture
def reports() -> Iterator[Reports]:
    """Listen to the pool's log."""
    reports = Reports()
    handler = _Handler(reports)
    logging.getLogger("warmpool").addHandler(handler)
    yield reports
    logging.getLogger("warmpool").removeHandler(handler)


@pytest.fixture
def restart_policy(monkeypatch: pytest.MonkeyPatch) -> Callable[[RestartPolicy], None]:
    """Set the restart policy of the pools that are made from here on."""

    def use(policy: RestartPolicy) -> None:
        use_policy(monkeypatch, policy)

    return use


def use_policy(monkeypatch: pytest.MonkeyPatch, policy: RestartPolicy) -> None:
    # The policy is no option of the pool; this is the seam where options become settings.
    make = config.settings

    def settings(*args: Any, **options: Any) -> Settings:
        return replace(make(*args, **options), restart=policy)

    monkeypatch.setattr(config, "settings", settings)


@dataclass
class SharedPool:
    """Two workers, whose starts follow orders."""

    pool: WarmPool
    orders: faults.Orders


class Shelf:
    """Keeps a pool from test to test, and replaces one that a failed test has spoilt."""

    def __init__(self, orders: faults.Orders, **options: Any) -> None:
        self._orders = orders
        self._options = {"initializer": faults.initialize, "initargs": (orders,), **options}
        self._pool = self._make()

    def _make(self) -> WarmPool:
        pool = WarmPool(2, **self._options)
        pool.wait_warm(BOUND)
        return pool

    def take(self) -> SharedPool:
        """The pool, with both workers idle."""
        self._orders.clear()
        try:
            self.rest()
        except (TimeoutError, AssertionError, WarmpoolError):
            self._pool.close(5)
            self._pool = self._make()
        return SharedPool(self._pool, self._orders)

    def rest(self) -> None:
        """Wait until every slot is refilled and every worker idle."""
        self._pool.wait_warm(5)
        until(lambda: self._pool.stats().workers == {"idle": 2}, "both workers idle", 5)

    def close(self) -> None:
        self._pool.close(BOUND)


@pytest.fixture(scope="module")
def make_shelf(
    start_method: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Shelf]]:
    """Make shelves for a module's pools."""
    shelves: list[Shelf] = []
    folder = tmp_path_factory.mktemp("orders")
    monkeypatch = pytest.MonkeyPatch()
    # The fork server and its workers have this from the environment of their start.
    monkeypatch.setenv(faults.Orders.VARIABLE, str(folder))
    monkeypatch.setattr("warmpool.child.main", faults.main)
    use_policy(monkeypatch, PATIENT)

    def make(**options: Any) -> Shelf:
        shelf = Shelf(faults.Orders(folder), start_method=start_method, **options)
        shelves.append(shelf)
        return shelf

    with leaks.nothing_left():
        yield make
        for shelf in shelves:
            shelf.close()
        shelves.clear()
    monkeypatch.undo()


@pytest.fixture(scope="module")
def patient_shelf(make_shelf: Callable[..., Shelf]) -> Shelf:
    return make_shelf(init_timeout=30)


@pytest.fixture(scope="module")
def hasty_shelf(make_shelf: Callable[..., Shelf]) -> Shelf:
    return make_shelf(init_timeout=0.8, grace=0.4)


@pytest.fixture
def shared_pool(patient_shelf: Shelf) -> Iterator[SharedPool]:
    """A pool that gives its workers all the time they need."""
    yield patient_shelf.take()
    patient_shelf.rest()


@pytest.fixture
def orders(tmp_path: Path) -> faults.Orders:
    """Orders for a pool of the test's own."""
    folder = tmp_path / "orders"
    folder.mkdir()
    return faults.Orders(folder)
