"""Large values, which travel apart from the pickle that refers to them; and who fails meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import SharedPool
from tests.helpers import faults, payloads, processes, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.hosts import Host
from tests.helpers.payloads import Grid
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import (
    MemoryLimitExceeded,
    PayloadError,
    ProtocolError,
    TaskTimeout,
    WarmPool,
    WorkerDied,
    room,
)
from warmpool.wire import Reader

MakePool = Callable[..., WarmPool]

LARGE = 100_000_000
"""Far above what a socket takes, and what a test uses besides."""


def address_space() -> int:
    """How many bytes this process has mapped and may look into.

    (The C library reserves 64 MiB more for the first allocation of each of several threads.)
    """
    size = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        where, allowed, *_ = line.split()
        if allowed.startswith("r"):
            begin, end = (int(bound, 16) for bound in where.split("-"))
            size += end - begin
    return size


def reader_of(pool: WarmPool) -> Reader:
    """What takes in the words of its only worker."""
    (held,) = pool._desk._supervisor._fleet._held.values()
    return held.channel._reader


def is_under_way(reader: Reader, future: Future[Any]) -> bool:
    return reader.missing > 0 or future.done()


def assert_given_back(before: int) -> None:
    until(lambda: address_space() < before + LARGE // 2, "the memory is given back")


# ------------------------------------------------------------------------------- what is got


@pytest.mark.parametrize("size", [room.LARGE - 1, room.LARGE, 5 * room.LARGE])
def test_values_arrive_as_what_they_were_and_are_the_receivers_own(
    shared_pool: SharedPool, size: int
) -> None:
    values = payloads.large_values(size)
    future = shared_pool.pool.submit(payloads.change_all, values)
    assert all(future.result(BOUND))
    assert values == payloads.large_values(size), "the worker has changed its own"
    back = shared_pool.pool.submit(payloads.return_large_values, size).result(BOUND)
    assert all(payloads.change_all(back))
    assert shared_pool.pool.submit(payloads.return_large_values, size).result(BOUND) == values


@pytest.mark.parametrize("pickler", [None, "cloudpickle"])
def test_either_pickler_takes_large_values(make_pool: MakePool, pickler: str | None) -> None:
    if pickler:
        pytest.importorskip("cloudpickle")
    pool = make_pool(1, start_method="fork", pickler=pickler)
    values = payloads.large_values(3 * room.LARGE)
    assert pool.submit(tasks.echo, values).result(BOUND) == values
    assert list(pool.map(tasks.echo, [values, b"x" * 40_000_000], chunksize=2)) == [
        values,
        b"x" * 40_000_000,
    ]


def test_later_changes_of_a_large_argument_do_not_reach_the_task(
    make_pool: MakePool, gate: Gate
) -> None:
    pool = make_pool(1, start_method="fork")
    running = pool.submit(hold, gate)
    gate.arrived()
    size = 2 * room.LARGE
    values = payloads.large_values(size)
    future = pool.submit(tasks.echo, values)
    payloads.change_all(values)
    gate.open()
    assert future.result(BOUND) == payloads.large_values(size)
    wait([running], BOUND)


def test_a_waiting_or_kept_value_takes_no_descriptor(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(1, start_method="fork")
    running = pool.submit(hold, gate)
    gate.arrived()
    before = len(processes.descriptors(os.getpid()))
    futures = [pool.submit(tasks.echo, Grid(bytes(room.LARGE))) for _ in range(30)]
    assert len(processes.descriptors(os.getpid())) == before
    gate.open()
    results = [future.result(BOUND) for future in futures]
    assert running.result(BOUND) is None
    until(lambda: len(processes.descriptors(os.getpid())) <= before + 2, "only its pipe to sleep")
    assert all(len(result.cells) == room.LARGE for result in results)


# ------------------------------------------------------------------------------- who dies when


@pytest.mark.parametrize("fault", ["dies_of_sigkill", "exits_with_3"])
@pytest.mark.parametrize("point", range(payloads.POINTS))
def test_a_worker_that_fails_at_any_point_of_a_large_answer(
    shared_pool: SharedPool, point: int, fault: str
) -> None:
    pool = shared_pool.pool
    error = outcome(pool.submit(payloads.write_parts_and, fault, point))
    assert isinstance(error, WorkerDied)
    assert error.started
    assert pool.submit(tasks.echo, "next").result(BOUND) == "next"


@pytest.mark.parametrize("point", range(payloads.POINTS))
def test_an_answer_that_hangs_half_way_is_ended_by_the_tasks_limit(
    make_pool: MakePool, point: int
) -> None:
    pool = make_pool(1, start_method="fork", task_timeout=0.3)
    future = pool.submit(payloads.write_parts_and, "hangs_asleep", point)
    assert isinstance(outcome(future), TaskTimeout)
    assert pool.submit(tasks.echo, "next").result(BOUND) == "next"


def test_a_worker_that_is_killed_as_it_sends(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(1)
    pool.wait_warm(BOUND)
    before = address_space()
    future = pool.submit(tasks.large, LARGE * 3)
    reader = reader_of(pool)
    until(partial(is_under_way, reader, future), "a part is under way")
    pid = future.info.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    # It may have been faster.
    assert isinstance(outcome(future), WorkerDied) or len(future.result()) == LARGE * 3
    del future, reader
    assert_given_back(before)


def test_a_worker_that_is_killed_as_it_receives(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(1)
    pid = pool.submit(tasks.own_pid).result(BOUND)
    before = address_space()
    os.kill(pid, signal.SIGSTOP)
    argument = [Grid(bytearray(LARGE)), b"x" * LARGE]
    future = pool.submit(tasks.echo, argument)
    until(future.running, "the task is handed over")
    os.kill(pid, signal.SIGKILL)
    # It cannot have started what it has not read.
    assert future.result(BOUND) == argument
    assert future.info.attempts == 2
    assert future.info.pid != pid
    del future, argument
    assert_given_back(before)


def test_a_worker_that_dies_as_it_unpickles_what_it_has_received(make_pool: MakePool) -> None:
    pool = make_pool(1, start_method="fork")
    pool.wait_warm(BOUND)
    before = address_space()
    fatal = payloads.OnUnpicklingLast(LARGE, faults.perform, "dies_of_sigkill")
    future = pool.options(retries=1).submit(tasks.echo, fatal)
    error = outcome(future)
    assert isinstance(error, WorkerDied)
    assert error.started
    assert future.info.attempts == 2, "it travelled twice"
    del future, fatal
    assert_given_back(before)


def test_what_is_cancelled_or_killed_is_let_go(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(1, start_method="fork")
    running = pool.submit(hold, gate)
    pid = gate.arrived()
    before = address_space()
    future = pool.submit(tasks.echo, bytearray(LARGE))
    assert address_space() > before + LARGE // 2
    assert future.cancel()
    del future
    assert_given_back(before)
    gate.open()
    running.result(BOUND)
    os.kill(pid, signal.SIGSTOP)
    future = pool.submit(tasks.echo, bytearray(LARGE))
    until(future.running, "the task is handed over")
    assert future.kill()
    assert isinstance(outcome(future), WorkerDied)
    del future
    assert_given_back(before)


def test_a_pool_that_is_closed_amid_a_transfer_lets_go_of_it(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(2)
    pids = {pool.submit(tasks.own_pid).result(BOUND)}
    before = address_space()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    futures = [pool.submit(tasks.echo, bytearray(LARGE)) for _ in range(4)]
    pool.close(0.5)
    assert all(future.done() for future in futures)
    del futures
    assert_given_back(before)


KILLED = """
    import os, sys, time
    from tests.helpers import tasks
    from tests.helpers.payloads import Grid
    from warmpool import WarmPool

    SIZE = 300_000_000

    if __name__ == "__main__":
        pool = WarmPool(2, start_method=sys.argv[1])
        pool.wait_warm(20)
        reader = {held.channel for held in pool._desk._supervisor._fleet._held.values()}
        if sys.argv[2] == "result":
            pool.submit(tasks.large, SIZE)
            while not any(channel._reader.missing for channel in reader):
                pass
        else:
            pool.submit(tasks.echo, Grid(bytearray(SIZE)))
            while all(channel.is_clear for channel in reader):
                pass
        print("amid it", flush=True)
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("direction", ["argument", "result"])
def test_workers_do_not_outlive_a_host_that_is_killed_amid_a_transfer(
    run_host: Callable[..., Host], start_method: str, direction: str
) -> None:
    host = run_host(KILLED, start_method, direction)
    assert host.line() == "amid it"
    assert host.wait() == -signal.SIGKILL
    host.wait_deserted()


# ------------------------------------------------------------------------------- who lies


@pytest.mark.parametrize("lie", payloads.LIES)
def test_a_lie_about_parts_costs_the_liar(shared_pool: SharedPool, gate: Gate, lie: str) -> None:
    pool = shared_pool.pool
    bystander = pool.submit(hold, gate, "unharmed")
    pid = gate.arrived()
    error = outcome(pool.submit(payloads.lie_of_parts, lie))
    assert isinstance(error, ProtocolError)
    assert error.pid != pid
    gate.open()
    assert bystander.result(BOUND) == "unharmed"


@pytest.mark.parametrize(("sent", "used"), [(1, 2), (1, 5), (3, 4)])
def test_an_answer_that_refers_to_parts_that_are_missing_fails_its_own_future(
    make_pool: MakePool, sent: int, used: int
) -> None:
    pool = make_pool(1, start_method="fork")
    future = pool.submit(payloads.answer_with_parts, sent, used)
    error = outcome(future)
    assert isinstance(error, PayloadError)
    assert "could not be unpickled here" in str(error)


def test_parts_that_nothing_refers_to_are_let_go(make_pool: MakePool) -> None:
    pool = make_pool(1, start_method="fork")
    future = pool.submit(payloads.answer_with_parts, 3, 2)
    assert [bytes(grid.cells) for grid in future.result(BOUND)] == [b"part", b"part"]


def test_a_promise_of_gigabytes_takes_no_memory(make_pool: MakePool) -> None:
    pool = make_pool(1, start_method="fork", task_timeout=0.5)
    pool.wait_warm(BOUND)
    before = address_space()
    most = []
    future = pool.submit(payloads.promise_a_part, 32 << 30)
    reader = reader_of(pool)
    while not future.done():
        if reader.missing:
            most.append(address_space())
    assert isinstance(outcome(future), TaskTimeout)
    # Whatever threads of this process have mapped besides.
    assert max(most) < before + 2 * room.AHEAD


# ------------------------------------------------------------------------------- who waits


def test_others_are_served_while_large_values_travel_both_ways(make_pool: MakePool) -> None:
    pool = make_pool(2, start_method="fork")
    large = [b"x" * LARGE, Grid(bytearray(LARGE))]
    future = pool.submit(tasks.echo, large)
    served = 0
    while not future.done():
        assert pool.submit(tasks.echo, served).result(BOUND) == served
        served += 1
    assert future.result(BOUND) == large
    assert served > 1


def test_two_who_ask_for_one_large_result_get_the_same(make_pool: MakePool) -> None:
    pool = make_pool(1, start_method="fork")
    future = pool.submit(payloads.return_large_values, 5 * room.LARGE)
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(future.result(BOUND))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
    assert len(got) == 4
    assert all(each == got[0] for each in got)


def test_memory_limit_sees_a_large_argument(make_pool: MakePool) -> None:
    pool = make_pool(1, start_method="fork", memory_limit=150 << 20)
    future = pool.submit(payloads.keep, Grid(bytearray(200 << 20)))
    assert isinstance(outcome(future), MemoryLimitExceeded)
