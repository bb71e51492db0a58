"""Pools that many tests share, since a pool costs more to start than most tests to run."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import faults, leaks, policies
from tests.helpers.waiting import BOUND, until
from warmpool import WarmPool, WarmpoolError


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
def reports(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reports]:
    """Listen to the pool's log, in which nothing is folded: shared pools see many like failures."""
    monkeypatch.setattr("warmpool.loglines.ALL_OF", 1_000_000)
    reports = Reports()
    handler = _Handler(reports)
    logging.getLogger("warmpool").addHandler(handler)
    yield reports
    logging.getLogger("warmpool").removeHandler(handler)


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
    monkeypatch.setattr("warmpool.forker.worker", faults.worker)

    def make(**options: Any) -> Shelf:
        shelf = Shelf(faults.Orders(folder), start_method=start_method, **options)
        shelves.append(shelf)
        return shelf

    with leaks.nothing_left(), policies.use(policies.PATIENT):
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


@pytest.fixture
def following(
    orders: faults.Orders, monkeypatch: pytest.MonkeyPatch, make_pool: Callable[..., WarmPool]
) -> Callable[..., WarmPool]:
    """Make pools whose workers follow the orders as they start."""
    monkeypatch.setenv(faults.Orders.VARIABLE, str(orders.folder))
    monkeypatch.setattr("warmpool.child.main", faults.main)
    monkeypatch.setattr("warmpool.forker.worker", faults.worker)

    def make(max_workers: int, **options: Any) -> WarmPool:
        options = {"initializer": faults.initialize, "initargs": (orders,), **options}
        return make_pool(max_workers, **options)

    return make
