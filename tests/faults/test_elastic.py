"""Elastic pools with real workers."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable

from tests.helpers import processes, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import WarmPool

MakePool = Callable[..., WarmPool]


def test_a_pool_grows_with_its_tasks_and_shrinks_without(
    make_pool: MakePool, start_method: str, gate: Gate
) -> None:
    pool = make_pool(4, min_idle=1, idle_timeout=0.3)
    pool.wait_warm(BOUND)
    assert len(pool.stats().details) == 1
    futures = [pool.submit(hold, gate) for _ in range(4)]
    pids = {gate.arrived() for _ in futures}
    assert len(pids) == 4
    gate.open(4)
    assert [outcome(future) for future in futures] == [None] * 4
    until(lambda: pool.stats().workers == {"idle": 1}, "three of them are gone")
    assert pool.stats().worker_exits == {"unused": 3}
    assert pool.submit(tasks.own_pid).result(BOUND) in pids


def test_a_pool_of_nobody_starts_workers_for_tasks(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(2, min_idle=0, idle_timeout=0.2)
    pool.wait_warm(BOUND)
    assert pool.available
    assert not pool.stats().details
    pid = pool.submit(tasks.own_pid).result(BOUND)
    processes.wait_gone(pid)
    assert pool.submit(tasks.own_pid).result(BOUND) != pid
    assert pool.stats().cold_starts == 2


def test_fresh_workers_are_ready_before_they_are_needed(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(4, min_idle=2, max_tasks_per_child=1)
    pool.wait_warm(BOUND)
    pids = set()
    for _ in range(10):
        # The steady rate below that of refilling.
        until(lambda: pool.stats().workers.get("idle", 0) >= 1, "one is ready")
        pids.add(pool.submit(tasks.own_pid).result(BOUND))
    assert len(pids) == 10
    assert pool.stats().cold_starts == 0


def test_aged_workers_are_replaced_between_tasks(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(2, min_idle=1, worker_lifetime=0.5)
    pid = pool.submit(tasks.own_pid).result(BOUND)
    processes.wait_gone(pid)
    until(lambda: pool.stats().worker_exits.get("aged", 0) >= 1, "it is counted")
    assert pool.submit(tasks.own_pid).result(BOUND) != pid


def test_a_forgotten_pool_ends_without_the_help_of_the_garbage_collector(
    start_method: str,
) -> None:
    gc.collect()
    gc.disable()
    try:
        pool = WarmPool(1, start_method=start_method)
        pid = pool.submit(tasks.own_pid).result(BOUND)
        del pool
        processes.wait_gone(pid)
    finally:
        gc.enable()


def test_a_worker_that_is_killed_just_when_it_is_ready_has_died(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(1)
    pool.wait_warm(BOUND)
    pid = pool.stats().details[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: pool.stats().worker_exits == {"died": 1}, "it is counted")
