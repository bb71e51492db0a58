"""What those of CPython's tests say that need its private attributes, said with public names."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable

import pytest

from tests.helpers import processes, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.waiting import BOUND, outcome
from warmpool import (
    Health,
    InitializerFailed,
    PayloadError,
    PoolBroken,
    PoolClosed,
    WarmPool,
    WorkerDied,
)

pytestmark = pytest.mark.usefixtures("start_method")

MakePool = Callable[..., WarmPool]

INPUTS = range(-5, 5)
OUTPUTS = [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]


def fail() -> None:
    raise ValueError("error in initializer")


class RefusesPickling:
    def __reduce__(self) -> str:
        raise TypeError("not me")


def hold_workers(pool: WarmPool, gate: Gate, count: int) -> list[int]:
    """Have so many tasks wait at the gate; the pids of their workers."""
    for _ in range(count):
        pool.submit(hold, gate)
    return [gate.arrived() for _ in range(count)]


# FailingInitializerMixin.test_initializer
def test_an_initializer_that_raises_breaks_the_pool(make_pool: MakePool) -> None:
    pool = make_pool(2, initializer=fail)

    error = outcome(pool.submit(tasks.own_pid))

    assert isinstance(error, PoolBroken)
    assert isinstance(error.__cause__, InitializerFailed)
    assert "ValueError: error in initializer" in str(error.__cause__)
    assert pool.health is Health.BROKEN
    with pytest.raises(PoolBroken):
        pool.submit(tasks.own_pid)


# ProcessPoolShutdownTest.test_processes_terminate
def test_workers_end_with_shutdown(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(5)
    pids = hold_workers(pool, gate, 3)
    gate.open(3)

    pool.shutdown()

    assert not any(map(processes.is_running, pids))


# ProcessPoolShutdownTest.test_context_manager_shutdown
def test_workers_end_with_the_block(make_pool: MakePool, gate: Gate) -> None:
    with make_pool(5) as pool:
        assert list(pool.map(abs, INPUTS)) == OUTPUTS
        pids = hold_workers(pool, gate, 5)
        gate.open(5)

    assert not any(map(processes.is_running, pids))


# ProcessPoolShutdownTest.test_del_shutdown
def test_a_forgotten_pool_finishes_and_ends(start_method: str, gate: Gate) -> None:
    pool = WarmPool(3, start_method=start_method)
    pids = hold_workers(pool, gate, 3)
    results = pool.map(abs, INPUTS)

    del pool
    gc.collect()
    gate.open(3)

    for pid in pids:
        processes.wait_gone(pid)
    assert list(results) == OUTPUTS


# ProcessPoolShutdownTest.test_shutdown_no_wait
def test_shutdown_without_waiting_finishes_and_ends(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(3)
    pids = hold_workers(pool, gate, 3)
    results = pool.map(abs, INPUTS)

    pool.shutdown(wait=False)
    gate.open(3)

    for pid in pids:
        processes.wait_gone(pid)
    assert list(results) == OUTPUTS


# ProcessPoolExecutorTest.test_killed_child
def test_a_killed_worker_costs_its_task_alone(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(1)
    doomed = pool.submit(hold, gate)
    waiting = pool.submit(pow, 2, 8)

    processes.kill(gate.arrived(), signal.SIGTERM)

    error = outcome(doomed)
    assert isinstance(error, WorkerDied)
    assert error.signal is signal.SIGTERM
    assert waiting.result(BOUND) == 256
    assert pool.submit(pow, 2, 9).result(BOUND) == 512


# ProcessPoolExecutorTest.test_saturation
def test_saturation(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(4)
    futures = [pool.submit(hold, gate) for _ in range(15 * pool.max_workers)]
    for _ in range(pool.max_workers):
        gate.arrived()

    stats = pool.stats()
    assert stats.workers == {"busy": 4}
    assert (stats.running, stats.queued) == (4, 56)

    gate.open(len(futures))
    assert [outcome(future) for future in futures] == [None] * 60


# ProcessPoolExecutorTest.test_idle_process_reuse_one, test_idle_process_reuse_multiple
def test_idle_workers_are_used_again(make_pool: MakePool) -> None:
    pool = make_pool(2)

    pids = [pool.submit(tasks.own_pid).result(BOUND) for _ in range(6)]

    assert len(set(pids)) <= 2
    assert pool.stats().workers_started == 2


# ProcessPoolExecutorTest.test_max_tasks_per_child
def test_max_tasks_per_child(make_pool: MakePool) -> None:
    pool = make_pool(1, max_tasks_per_child=3)

    pids = [pool.submit(os.getpid).result(BOUND) for _ in range(4)]

    assert len(set(pids[:3])) == 1
    assert pids[3] != pids[0]
    assert sum(pool.stats().workers.values()) == 1


# ProcessPoolExecutorTest.test_max_tasks_early_shutdown
def test_max_tasks_per_child_with_early_shutdown(make_pool: MakePool) -> None:
    pool = make_pool(3, max_tasks_per_child=1)
    futures = [pool.submit(pow, number, 2) for number in range(6)]

    pool.shutdown()

    assert [future.result(0) for future in futures] == [0, 1, 4, 9, 16, 25]


# ExecutorDeadlockTest.test_shutdown_deadlock_pickle
def test_what_cannot_be_pickled_does_not_delay_the_end(make_pool: MakePool) -> None:
    pool = make_pool(2)
    pid = pool.submit(os.getpid).result(BOUND)

    future = pool.submit(id, RefusesPickling())
    pool.shutdown(wait=False)

    assert isinstance(outcome(future), PayloadError)
    processes.wait_gone(pid)
    with pytest.raises(PoolClosed):
        pool.submit(os.getpid)
