"""What ``on_event`` is told of a pool's life."""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers import faults, tasks
from tests.helpers.waiting import BOUND, outcome
from warmpool import Health, WarmPool, WorkerDied, notices
from warmpool.notices import (
    HealthChanged,
    NoticesDropped,
    TaskQueued,
    TaskSettled,
    TaskStarted,
    WorkerExited,
    WorkerFailed,
    WorkerReady,
    WorkerStarted,
)

MakePool = Callable[..., WarmPool]


def test_the_whole_story_in_order(make_pool: MakePool, start_method: str) -> None:
    seen: list[Any] = []
    pool = make_pool(1, on_event=seen.append)
    pool.wait_warm(BOUND)
    done = pool.submit(tasks.echo, 1)
    done.result(BOUND)
    lost = pool.submit(faults.perform, "dies_of_sigkill")
    assert isinstance(outcome(lost), WorkerDied)
    pool.wait_warm(BOUND)
    pool.shutdown()  # Waits until all has been told.
    told = [type(notice) for notice in seen]
    assert told[:3] == [WorkerStarted, WorkerReady, HealthChanged]
    of_first, of_second = (
        [notice for notice in seen if getattr(notice, "task", None) == task] for task in (1, 2)
    )
    assert [type(notice) for notice in of_first] == [TaskQueued, TaskStarted, TaskSettled]
    queued, started, settled = of_first
    assert queued.name == "echo"
    assert (started.pid, started.attempt) == (done.info.pid, 1)
    assert (settled.outcome, settled.cause) == ("returned", None)
    assert queued.at <= started.at <= settled.at
    assert (of_second[-1].outcome, of_second[-1].cause) == ("failed", "died")
    (failed,) = [notice for notice in seen if isinstance(notice, WorkerFailed)]
    assert isinstance(failed.error, WorkerDied)
    assert failed.pid == lost.info.pid
    exits = [notice for notice in seen if isinstance(notice, WorkerExited)]
    assert [(e.reason, e.tasks_done) for e in exits] == [("died", 1), ("closed", 0)]
    healths = [notice.health for notice in seen if isinstance(notice, HealthChanged)]
    assert healths[0] is Health.READY
    assert healths[-1] is Health.CLOSED
    assert NoticesDropped not in told


def test_notices_are_frozen() -> None:
    for name in dir(notices):
        cls = getattr(notices, name)
        if dataclasses.is_dataclass(cls):
            assert cls.__dataclass_params__.frozen  # type: ignore[union-attr]


def test_a_slow_observer_delays_nobody_and_keeps_the_order(make_pool: MakePool) -> None:
    gate, seen = threading.Event(), queue.SimpleQueue[Any]()

    def observe(notice: Any) -> None:
        gate.wait(BOUND)
        seen.put(notice)

    pool = make_pool(1, start_method="fork", on_event=observe)
    for n in range(20):
        assert pool.submit(tasks.echo, n).result(BOUND) == n
    assert seen.empty()
    gate.set()
    pool.shutdown()
    times = [seen.get_nowait().at for _ in range(seen.qsize())]
    # (A task that a lease has taken started a moment before the supervisor hears of it.)
    assert len(times) >= 63


def test_an_observer_that_raises_is_told_of_the_rest(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []

    def observe(notice: Any) -> None:
        seen.append(notice)
        raise SystemExit(3)

    with caplog.at_level(logging.ERROR, "warmpool"):
        pool = make_pool(1, start_method="fork", on_event=observe)
        assert pool.submit(tasks.echo, 1).result(BOUND) == 1
        pool.shutdown()
    assert isinstance(seen[-1], (WorkerExited, HealthChanged))
    assert "exception calling callback" in caplog.text


def test_what_it_cannot_keep_up_with_is_dropped_and_counted(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warmpool.observer.MOST_NOTICES", 10)
    gate, seen = threading.Event(), list[Any]()

    def observe(notice: Any) -> None:
        gate.wait(BOUND)
        seen.append(notice)

    pool = make_pool(1, start_method="fork", on_event=observe)
    for n in range(20):
        assert pool.submit(tasks.echo, n).result(BOUND) == n
    gate.set()
    pool.shutdown()
    assert len(seen) <= 20
    assert sum(n.count for n in seen if isinstance(n, NoticesDropped)) >= 40
