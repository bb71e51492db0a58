"""Limits of the queue and of time, and what gets around none of them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from tests.faults.conftest import SharedPool
from tests.helpers import payloads, processes, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.hosts import Host
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import (
    PoolSaturated,
    QueueTimeout,
    TaskTimeout,
    WarmPool,
)

MakePool = Callable[..., WarmPool]

# ------------------------------------------------------------------------------- queue limits


def test_queue_timeout_fails_a_task_that_no_worker_took(
    make_pool: MakePool, gate: Gate, start_method: str
) -> None:
    pool = make_pool(1, queue_timeout=0.2)
    running = pool.options(queue_timeout=None).submit(hold, gate, "ran")
    gate.arrived()
    waiting = pool.submit(tasks.own_pid)
    patient = pool.options(queue_timeout=None).submit(tasks.own_pid)
    error = outcome(waiting)
    assert isinstance(error, QueueTimeout)
    assert isinstance(error, TimeoutError)
    assert error.limit == 0.2
    assert waiting.info.attempts == 0
    gate.open()
    assert running.result(BOUND) == "ran"
    assert patient.result(BOUND) == running.info.pid


def test_queue_timeout_counts_while_no_worker_is_warm(
    make_pool: MakePool, gate: Gate, start_method: str
) -> None:
    pool = make_pool(1, initializer=gate.hold, queue_timeout=0.2)
    gate.arrived()
    assert isinstance(outcome(pool.submit(tasks.own_pid)), QueueTimeout)
    gate.open()
    assert pool.options(queue_timeout=None).submit(tasks.echo, 1).result(BOUND) == 1


def test_a_time_limit_does_not_count_the_wait(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(1, start_method="fork", task_timeout=1.0)
    blocking = pool.options(timeout=None).submit(hold, gate)
    gate.arrived()
    waiting = pool.submit(tasks.echo, "in time")
    # Longer than the limit: that is the point.
    assert not wait([waiting], timeout=1.2).done
    gate.open()
    assert waiting.result(BOUND) == "in time"
    assert blocking.result(BOUND) is None


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_max_queue_is_exact(make_pool: MakePool, gate: Gate, start_method: str, limit: int) -> None:
    pool = make_pool(2, max_queue=limit)
    pool.wait_warm(BOUND)
    for _ in range(2):
        running = [pool.submit(hold, gate, "ran") for _ in range(2)]
        waiting = [pool.submit(tasks.echo, number) for number in range(limit)]
        for _ in range(3):
            with pytest.raises(PoolSaturated) as caught:
                pool.submit(tasks.own_pid)
            assert caught.value.max_queue == limit
        assert pool.stats().queued == limit
        gate.open(2)
        assert [future.result(BOUND) for future in running] == ["ran", "ran"]
        assert [future.result(BOUND) for future in waiting] == list(range(limit))


def test_max_queue_holds_for_many_threads_at_once(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(1, start_method="fork", max_queue=5)
    running = pool.submit(hold, gate)
    gate.arrived()
    barrier = threading.Barrier(8)

    def submit() -> int:
        barrier.wait(BOUND)
        taken = 0
        for _ in range(10):
            try:
                pool.submit(tasks.own_pid)
                taken += 1
            except PoolSaturated:
                pass
        return taken

    with ThreadPoolExecutor(8) as threads:
        taken = [threads.submit(submit) for _ in range(8)]
        assert sum(future.result(BOUND) for future in taken) == 5
    gate.open()
    running.result(BOUND)


def test_cancelling_makes_room_in_the_queue(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(1, start_method="fork", max_queue=1)
    running = pool.submit(hold, gate)
    gate.arrived()
    for _ in range(3):
        waiting = pool.submit(tasks.own_pid)
        with pytest.raises(PoolSaturated):
            pool.submit(tasks.own_pid)
        assert waiting.cancel()
    gate.open()
    running.result(BOUND)


# ------------------------------------------------------------------------------- time limits


@pytest.mark.parametrize(
    "function",
    [
        tasks.hang_in_a_regular_expression,
        tasks.hang_in_a_loop,
        tasks.hang_whatever_is_raised,
        tasks.hang_in_c_with_the_gil,
    ],
)
def test_no_manner_of_hanging_escapes_a_limit(
    make_pool: MakePool, function: Callable[[], None]
) -> None:
    pool = make_pool(1, start_method="fork", task_timeout=0.3)
    error = outcome(pool.submit(function))
    assert isinstance(error, TaskTimeout)
    assert error.limit == 0.3
    assert pool.options(timeout=None).submit(tasks.echo, 1).result(BOUND) == 1


def test_a_limit_ends_an_unpickling_that_hangs_in_the_worker(shared_pool: SharedPool) -> None:
    view = shared_pool.pool.options(timeout=0.4)
    error = outcome(view.submit(tasks.echo, payloads.OnUnpickling(tasks.hang_in_a_loop)))
    assert isinstance(error, TaskTimeout)
    assert error.started


def test_a_limit_counts_while_the_arguments_are_still_being_sent(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(1)
    pid = pool.submit(tasks.own_pid).result(BOUND)
    os.kill(pid, signal.SIGSTOP)
    error = outcome(pool.options(timeout=0.4).submit(len, bytes(50_000_000)))
    assert isinstance(error, TaskTimeout)
    assert not error.started
    processes.wait_gone(pid)
    assert pool.submit(tasks.echo, 1).result(BOUND) == 1


STOPPED = """
    import sys
    from pathlib import Path
    from tests.helpers.gate import Gate, hold
    from warmpool import WarmPool

    if __name__ == "__main__":
        pool = WarmPool(1, start_method=sys.argv[1])
        pool.wait_warm(20)
        future = pool.options(timeout=1.0).submit(hold, Gate.at(Path(sys.argv[2])), "in time")
        print(future.result(20), flush=True)
        pool.close()
"""


def test_an_answer_that_came_in_time_counts_though_the_host_was_stopped_meanwhile(
    run_host: Callable[..., Host], gate: Gate
) -> None:
    host = run_host(STOPPED, "fork", gate.path)
    pid = gate.arrived()
    os.kill(host.pid, signal.SIGSTOP)
    until(lambda: processes.state(host.pid) == "T", "the host is stopped")
    gate.open()
    # The limit has to pass, and the answer comes at its beginning.
    time.sleep(1.2)
    assert processes.state(pid) == "S"
    os.kill(host.pid, signal.SIGCONT)
    assert host.line() == "in time"
    assert host.wait() == 0
