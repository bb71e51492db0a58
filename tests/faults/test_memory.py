"""Limits of memory: over a worker and what it has started."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.helpers import limits, processes, tasks
from tests.helpers.gate import Gate
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import InitializerFailed, MemoryLimitExceeded, WarmPool

MakePool = Callable[..., WarmPool]

MiB = 1 << 20
LIMIT, TOO_MUCH = 250 * MiB, 300 * MiB


def test_a_task_that_takes_too_much_is_killed_and_told_why(
    make_pool: MakePool, start_method: str, gate: Gate
) -> None:
    pool = make_pool(1, memory_limit=LIMIT)
    future = pool.submit(limits.grow_and_hold, TOO_MUCH, gate)
    pid = gate.arrived()
    error = outcome(future)
    assert type(error) is MemoryLimitExceeded
    assert (error.pid, error.stage, error.limit, error.started) == (pid, "busy", LIMIT, True)
    assert error.used is not None
    assert LIMIT < error.used < 2 * TOO_MUCH  # It may be met as it grows.
    assert "memory_limit=250 MiB" in str(error)
    assert "(grow_and_hold)" in str(error)
    assert error.stack is not None
    assert "in grow_and_hold" in error.stack
    processes.wait_gone(pid)
    assert pool.submit(tasks.own_pid).result(BOUND) != pid
    assert pool.stats().worker_exits == {"out of memory": 1}
    assert pool.stats().tasks_failed == {"out of memory": 1}


def test_what_a_task_has_started_counts(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(1, memory_limit=LIMIT)
    error = outcome(pool.submit(limits.grow_in_a_grandchild, TOO_MUCH))
    assert type(error) is MemoryLimitExceeded
    assert "with its descendants" in str(error)


def test_a_task_below_the_limit_is_left_alone(
    make_pool: MakePool, start_method: str, gate: Gate
) -> None:
    # A copy of this process has its share of what that has by now, after many tests.
    own = psutil.Process().memory_info().rss if start_method == "fork" else 0
    pool = make_pool(1, memory_limit=LIMIT + own)
    future = pool.submit(limits.grow_and_hold, 50 * MiB, gate)
    pid = gate.arrived()
    until(lambda: (pool.stats().details[0].memory or 0) > 50 * MiB, "its memory is seen")
    gate.open()
    assert outcome(future) is None
    assert pool.submit(tasks.own_pid).result(BOUND) == pid


def test_an_idle_worker_that_is_too_large_is_replaced(
    make_pool: MakePool, start_method: str, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(2, min_idle=1, memory_limit=LIMIT)
    with caplog.at_level(logging.WARNING, "warmpool"):
        pid = pool.submit(limits.grow_for_good, TOO_MUCH, gate).result(BOUND)
        assert gate.arrived() == pid
        gate.open()
        processes.wait_gone(pid)
        until(lambda: pool.stats().worker_exits == {"out of memory": 1}, "it is counted")
    assert "it is replaced" in caplog.text
    assert pool.submit(tasks.own_pid).result(BOUND) != pid


def test_an_initializer_that_takes_too_much_fails(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(
        1,
        initializer=limits.grow_and_sleep,
        initargs=(TOO_MUCH,),
        memory_limit=LIMIT,
    )
    with pytest.raises(MemoryLimitExceeded) as caught:
        pool.wait_warm(BOUND)
    assert caught.value.stage == "initializing"
    assert "the initializer was killed" in str(caught.value)
    assert not isinstance(caught.value, InitializerFailed)


def test_a_warning_is_one_line(
    make_pool: MakePool, start_method: str, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(1, memory_warning=LIMIT)
    with caplog.at_level(logging.WARNING, "warmpool"):
        future = pool.submit(limits.grow_and_hold, TOO_MUCH, gate)
        gate.arrived()
        until(lambda: "memory_warning" in caplog.text, "it is told of")
        gate.open()
        assert outcome(future) is None
    (record,) = [record for record in caplog.records if "memory_warning" in record.getMessage()]
    assert "(grow_and_hold)" in record.getMessage()
    assert "more than 250 MiB" in record.getMessage()


@pytest.mark.parametrize("start_method", ["fork"], indirect=True)
def test_memory_that_workers_share_counts_once(make_pool: MakePool, start_method: str) -> None:
    """Each of them has all of the host's resident; the sum would be past the limit at once."""
    shared = bytearray(b"x") * TOO_MUCH
    pool = make_pool(4, memory_limit=LIMIT)
    pool.wait_warm(BOUND)
    until(lambda: all(w.memory for w in pool.stats().details), "all have been looked at")
    assert pool.submit(len, b"abc").result(BOUND) == 3
    assert pool.stats().worker_exits == {}
    del shared


def test_a_kill_by_the_kernel_for_want_of_memory_is_told_of_for_certain(
    make_pool: MakePool,
    start_method: str,
    gate: Gate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = tmp_path / "memory.events"
    events.write_text("oom_kill 0\n")
    monkeypatch.setattr("warmpool.oom._own_path", lambda: str(events))
    pool = make_pool(1)
    future = pool.submit(gate.hold)
    pid = gate.arrived()
    events.write_text("oom_kill 1\n")
    os.kill(pid, signal.SIGKILL)
    assert "by the kernel's out-of-memory killer, as its counter says" in str(outcome(future))
