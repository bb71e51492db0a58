"""What those of CPython's tests say that need its private attributes, said with public names."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import limits, processes, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.waiting import BOUND, outcome
from warmpool import (
    Health,
    InitializerFailed,
    PayloadError,
    PoolBroken,
    PoolClosed,
    SoftTimeout,
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


# ProcessPoolShutdownTest.test_shutdown_gh_132969_case_1, _2
# ProcessPoolExecutorTest.test_shutdown_no_wait_max_tasks_gh119592
# ProcessPoolExecutorTest.test_gc_during_max_tasks_worker_exit_gh152967
@pytest.mark.parametrize("shut_down", [False, True], ids=["forgotten", "shut_down"])
def test_who_is_shut_down_or_forgotten_finishes_with_a_worker_for_each_task(
    start_method: str, gate: Gate, shut_down: bool
) -> None:
    pool = WarmPool(1, max_tasks_per_child=1, start_method=start_method)
    running, failing = pool.submit(hold, gate, "ran"), pool.submit(fail)
    waiting = pool.submit(os.getpid)
    pids = [gate.arrived()]

    if shut_down:
        pool.shutdown(wait=False)
    del pool
    gc.collect()
    gate.open()

    assert running.result(BOUND) == "ran"
    assert isinstance(outcome(failing), ValueError)
    pids += [failing.info.pid or 0, waiting.result(BOUND)]
    assert len(set(pids)) == 3
    for pid in pids:
        processes.wait_gone(pid)


# ProcessPoolExecutorTest.test_force_shutdown_during_max_tasks_worker_exit
def test_no_worker_follows_one_that_was_killed_with_its_pool(
    make_pool: MakePool, gate: Gate
) -> None:
    pool = make_pool(1, max_tasks_per_child=1)
    running = pool.submit(hold, gate)
    waiting = pool.submit(hold, gate)
    pid = gate.arrived()

    pool.kill_workers()

    assert isinstance(outcome(running), PoolClosed)
    assert waiting.cancelled()
    processes.wait_gone(pid)
    pool.shutdown()
    assert pool.stats().workers_started == 1
    assert gate.nobody_waits()


def fail_from_the_second_on(marker: Path) -> None:
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        raise ValueError("no other worker can be had") from None


# ProcessPoolExecutorTest.test_failed_worker_replacement_breaks_pool
def test_a_worker_that_cannot_be_replaced_breaks_the_pool(
    make_pool: MakePool, gate: Gate, tmp_path: Path
) -> None:
    marker = (tmp_path / "there was one",)
    pool = make_pool(1, max_tasks_per_child=1, initializer=fail_from_the_second_on, initargs=marker)
    running = pool.submit(hold, gate, "ran")
    waiting = [pool.submit(os.getpid) for _ in range(2)]
    gate.arrived()
    gate.open()

    assert running.result(BOUND) == "ran"
    for future in waiting:
        error = outcome(future)
        assert isinstance(error, PoolBroken)
        assert "no other worker can be had" in str(error.__cause__)


# ProcessPoolExecutorTest.test_broken_process_pool_traceback
def test_each_task_of_a_broken_pool_has_an_error_of_its_own(make_pool: MakePool) -> None:
    pool = make_pool(1, initializer=fail)
    futures = [pool.submit(os.getpid) for _ in range(3)]

    for future in futures:
        with pytest.raises(PoolBroken) as caught:
            future.result(BOUND)
        here = [frame for frame in caught.traceback if frame.path == Path(__file__)]
        assert len(here) == 1
    assert len({id(outcome(future)) for future in futures}) == 3


# ProcessPoolExecutorTest.test_terminate_workers
def test_terminate_workers(make_pool: MakePool, gate: Gate, tmp_path: Path) -> None:
    pool = make_pool(1, grace=BOUND)
    running = pool.submit(limits.announce_and_clean_up, gate, tmp_path / "notes")
    waiting = pool.submit(os.getpid)
    pid = gate.arrived()

    pool.terminate_workers()

    error = outcome(running)
    assert isinstance(error, SoftTimeout)
    assert error.limit is None
    assert error.left is not None
    assert 0 < error.left <= BOUND
    assert (tmp_path / "notes").read_text() == "cleaned up"
    assert waiting.cancelled()
    with pytest.raises(RuntimeError):
        pool.submit(os.getpid)
    processes.wait_gone(pid)


def test_terminate_workers_kills_after_the_grace(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(1, grace=0.3)
    running = pool.submit(limits.announce_and_hang, gate)
    pid = gate.arrived()

    pool.terminate_workers()

    # It was told, and went on.
    assert gate.arrived() == pid
    assert isinstance(outcome(running), PoolClosed)


# ProcessPoolExecutorTest.test_kill_workers, test_force_shutdown_workers, _stops_pool
def test_kill_workers(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(2, grace=3600)
    running = [pool.submit(hold, gate) for _ in range(2)]
    waiting = pool.submit(hold, gate)
    pids = [gate.arrived() for _ in range(2)]

    pool.kill_workers()

    assert [type(outcome(future)) for future in running] == [PoolClosed] * 2
    assert waiting.cancelled()
    with pytest.raises(RuntimeError):
        pool.submit(os.getpid)
    for pid in pids:
        processes.wait_gone(pid)
    assert gate.nobody_waits()
    pool.kill_workers()


# ProcessPoolExecutorTest.test_force_shutdown_workers_not_started_yet
@pytest.mark.parametrize("name", ["terminate_workers", "kill_workers"])
def test_workers_that_are_still_to_be_started_are_none_after_the_end(
    make_pool: MakePool, name: str
) -> None:
    pool = make_pool(1, min_idle=0)

    getattr(pool, name)()

    pool.shutdown()
    assert pool.stats().workers_started == 0
    assert pool.health is Health.CLOSED


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
