"""``close()`` ends within its deadline, whatever the workers do and whoever calls it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import faults, payloads, policies, processes, tasks
from tests.helpers.faults import End
from tests.helpers.gate import Gate, hold
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import Health, PoolBroken, PoolClosed, WarmPool

MakePool = Callable[..., WarmPool]

GRACE = 0.3
"""Seconds that a worker which hangs costs each of these tests."""


def assert_ended(pool: WarmPool, *pids: int | None) -> None:
    """The pool has ended, and its workers with it: not soon, but when ``close()`` returns."""
    assert pool.health is Health.CLOSED
    assert not pool.available
    assert pool.stats().workers == {}
    for pid in pids:
        assert pid is not None
        assert not processes.is_running(pid)
    with pytest.raises(PoolClosed):
        pool.submit(tasks.own_pid)


HANGS = [
    pytest.param(method, name, id=f"{method}-{name}")
    for name in faults.names(End.HANGS)
    for method in ("fork", "forkserver", "spawn", "template")
    # What ends a hang is the same for all of them: all for the cheapest method, two for others.
    if method == "fork" or name in ("hangs_with_the_gil", "is_stopped")
]


@pytest.mark.parametrize(("start_method", "name"), HANGS, indirect=["start_method"])
def test_close_ends_while_a_task_hangs(
    make_pool: MakePool, gate: Gate, start_method: str, name: str
) -> None:
    pool = make_pool(grace=GRACE)
    idle = pool.submit(tasks.own_pid)
    hanging = pool.submit(tasks.announce_and, gate, name)
    pid = gate.arrived()
    idle.result(BOUND)
    pool.close()
    assert_ended(pool, pid, idle.info.pid)
    error = outcome(hanging)
    assert isinstance(error, PoolClosed)


def test_close_lets_a_task_finish_within_the_grace_and_fails_those_that_wait(
    make_pool: MakePool, gate: Gate, start_method: str
) -> None:
    pool = make_pool(1, grace=BOUND)
    running = pool.submit(hold, gate, "finished")
    waiting = [pool.submit(tasks.own_pid) for _ in range(3)]
    gate.arrived()
    with ThreadPoolExecutor(1) as threads:
        closing = threads.submit(pool.close)
        for future in waiting:
            error = outcome(future)
            assert isinstance(error, PoolClosed)
        assert not running.done()
        gate.open()
        assert running.result(BOUND) == "finished"
        closing.result(BOUND)
    assert_ended(pool, running.info.pid)


def test_close_without_time_kills_at_once(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(grace=BOUND, start_method="fork")
    running = pool.submit(hold, gate)
    pid = gate.arrived()
    pool.close(0)
    assert isinstance(outcome(running), PoolClosed)
    processes.wait_gone(pid)
    pool.close(BOUND)
    assert_ended(pool, pid)


def test_a_later_close_with_less_time_hurries_an_earlier_one(
    make_pool: MakePool, gate: Gate
) -> None:
    pool = make_pool(grace=BOUND, start_method="fork")
    running = pool.submit(hold, gate)
    gate.arrived()
    with ThreadPoolExecutor(1) as threads:
        patient = threads.submit(pool.close)
        until(lambda: pool.health is Health.CLOSED, "the first close has begun")
        pool.close(0.1)
        patient.result(BOUND)
    assert isinstance(outcome(running), PoolClosed)
    assert_ended(pool, running.info.pid)


# ------------------------------------------------------------------------------- while it warms up


@pytest.mark.parametrize("stage", ["starting", "initializing"])
@pytest.mark.parametrize("name", ["hangs_with_the_gil", "is_stopped"])
def test_close_ends_while_a_worker_hangs_before_it_is_ready(
    following: MakePool, orders: faults.Orders, start_method: str, name: str, stage: str
) -> None:
    orders.give(stage, name)
    pool = following(1)
    waiting = pool.submit(tasks.own_pid)
    pid = until(lambda: orders.taken_by(stage), "a worker hangs")
    pool.close()
    assert_ended(pool, pid)
    assert isinstance(outcome(waiting), PoolClosed)


def test_close_ends_while_workers_are_being_started(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(4)
    waiting = pool.submit(tasks.own_pid)
    pool.close()
    assert_ended(pool)
    # A fork may be faster.
    assert waiting.done()
    assert isinstance(outcome(waiting), PoolClosed | None)


def test_close_ends_while_a_broken_pool_probes(
    make_pool: MakePool,
    start_method: str,
) -> None:
    with policies.use(policies.STRICT):
        pool = make_pool(1, initializer=faults.raises)
    assert isinstance(outcome(pool.submit(tasks.own_pid)), PoolBroken)
    pool.close()
    assert_ended(pool)


def test_close_fails_who_waits_for_warmth(following: MakePool, orders: faults.Orders) -> None:
    orders.give("initializing", "hangs_asleep")
    pool = following(1, start_method="fork")
    until(lambda: orders.taken_by("initializing"), "a worker hangs")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pool.wait_warm)
        pool.close()
        assert isinstance(outcome(waiting), PoolClosed)


# ------------------------------------------------------------------------------- while it sends


def test_close_ends_while_200_megabytes_go_to_a_worker_that_does_not_read(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(1, grace=GRACE)
    pid = pool.submit(tasks.own_pid).result(BOUND)
    os.kill(pid, signal.SIGSTOP)
    future = pool.submit(len, bytes(200_000_000))
    until(future.running, "the task is handed over")
    pool.close()
    assert_ended(pool, pid)
    assert isinstance(outcome(future), PoolClosed)


def test_close_ends_while_200_megabytes_come_from_a_worker(
    make_pool: MakePool, start_method: str, gate: Gate
) -> None:
    pool = make_pool(1, grace=GRACE)
    future = pool.submit(tasks.large, 200_000_000, gate)
    pid = gate.arrived()
    pool.close(0)
    processes.wait_gone(pid)
    pool.close(BOUND)
    assert_ended(pool, pid)
    error = outcome(future)
    assert error is None or isinstance(error, PoolClosed)


# ------------------------------------------------------------------------------- who calls it


def test_close_may_be_called_twice_and_from_many_threads_at_once(
    make_pool: MakePool, gate: Gate, start_method: str
) -> None:
    pool = make_pool(grace=GRACE)
    running = pool.submit(hold, gate)
    gate.arrived()
    barrier = threading.Barrier(8)

    def close() -> None:
        barrier.wait(BOUND)
        pool.close()

    with ThreadPoolExecutor(8) as threads:
        for closing in [threads.submit(close) for _ in range(8)]:
            closing.result(BOUND)
    assert_ended(pool, running.info.pid)
    assert isinstance(outcome(running), PoolClosed)
    pool.close()
    pool.shutdown()


@pytest.mark.parametrize("how", ["close", "shutdown"])
def test_a_callback_may_end_the_pool(make_pool: MakePool, start_method: str, how: str) -> None:
    pool = make_pool()
    returned = threading.Event()
    others = [pool.submit(tasks.own_pid) for _ in range(4)]
    future = pool.submit(tasks.echo, 1)

    def end(_future: Future[int]) -> None:
        getattr(pool, how)()
        returned.set()

    future.add_done_callback(end)
    assert returned.wait(BOUND)
    for other in others:
        error = outcome(other)
        assert error is None or (how == "close" and isinstance(error, PoolClosed))
    assert_ended(pool)


SIGNAL_HANDLER = """
    import os, signal, sys, threading, time
    from warmpool import PoolClosed, WarmPool
    from tests.helpers import tasks

    def main(method, how):
        pool = WarmPool(2, start_method=method, grace=0.2)
        pool.wait_warm()

        def handler(number, frame):
            getattr(pool, how)()
            # Not print(): it may have been interrupted itself.
            os.write(1, b"handled\\n")

        signal.signal(signal.SIGUSR1, handler)
        os.write(1, b"ready\\n")
        submitted = []
        try:
            # The signal comes at any line of this.
            while True:
                submitted.append(pool.submit(tasks.echo, 1))
                if len(submitted) % 50 == 0:
                    submitted[-1].result()
        except PoolClosed:
            pass
        for future in submitted:
            future.exception(20)
        print("settled", flush=True)

    if __name__ == "__main__":
        main(*sys.argv[1:])
"""


@pytest.mark.parametrize("how", ["close", "shutdown"])
def test_a_signal_handler_may_end_the_pool(
    run_host: Callable[..., Any], start_method: str, how: str
) -> None:
    host = run_host(SIGNAL_HANDLER, start_method, how)
    assert host.line() == "ready"
    os.kill(host.pid, signal.SIGUSR1)
    assert host.line() == "handled"
    assert host.line() == "settled"
    assert host.wait() == 0
    # Where the signal came between a lease and its frame, and the handler waits for the very task
    # that its own thread was about to send, the worker is given up.
    given_up = ("a thread of this program is stopped in the middle of", "had not started")
    assert [line for line in host.stderr.splitlines() if not any(g in line for g in given_up)] == []
    host.wait_deserted()


def test_leaving_the_block_by_an_exception_closes_the_pool(
    make_pool: MakePool, gate: Gate, start_method: str
) -> None:
    pool = make_pool(1, grace=GRACE)
    futures = []

    def use() -> None:
        with pool:
            futures.append(pool.submit(hold, gate))
            futures.append(pool.submit(tasks.own_pid))
            gate.arrived()
            raise faults.Oops

    with pytest.raises(faults.Oops):
        use()
    assert_ended(pool, futures[0].info.pid)
    for future in futures:
        assert isinstance(outcome(future), PoolClosed)


def test_a_result_that_does_not_fit_the_pipe_survives_a_close_with_grace(
    make_pool: MakePool, gate: Gate, start_method: str
) -> None:
    pool = make_pool(1, grace=BOUND)
    future = pool.submit(tasks.large, 20_000_000, gate)
    gate.arrived()
    pool.close()
    assert len(future.result(BOUND)) == 20_000_000
    assert_ended(pool, future.info.pid)


def test_arguments_on_their_way_arrive_before_a_close_with_grace_ends(
    make_pool: MakePool, start_method: str, tmp_path: Path
) -> None:
    pool = make_pool(1, grace=BOUND)
    pool.wait_warm(BOUND)
    future = pool.submit(len, bytes(20_000_000))
    until(lambda: future.running() or future.done(), "the task is handed over")
    pool.close()
    assert future.result(BOUND) == 20_000_000


def test_an_unpickling_that_hangs_is_ended_by_close(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(1, grace=GRACE)
    future = pool.submit(tasks.echo, payloads.fault_on_unpickling("hangs_with_the_gil"))
    until(future.running, "the task is handed over")
    pool.close()
    assert_ended(pool, future.info.pid)
    assert isinstance(outcome(future), PoolClosed)


def test_close_ends_while_its_caller_holds_a_futures_lock(
    make_pool: MakePool, gate: Gate, start_method: str
) -> None:
    pool = make_pool(2, grace=GRACE)
    futures = [pool.submit(hold, gate) for _ in range(3)]
    for _ in range(2):
        gate.arrived()
    # wait() and as_completed() hold the locks of all their futures for a moment, result() its
    # own: that is where a signal handler may find its thread.
    with futures[0]._condition, futures[2]._condition:
        pool.close(5)
        assert isinstance(outcome(futures[1]), PoolClosed)
    for future in futures:
        assert isinstance(outcome(future), PoolClosed)
    pool.close(BOUND)
    assert_ended(pool, futures[0].info.pid)
