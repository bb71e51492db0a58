"""``cancel()``, ``kill()`` and what they race with."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import SharedPool
from tests.helpers import faults, processes, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.waiting import BOUND, outcome
from warmpool import (
    WorkerDied,
)

MakeGate = Callable[[], Gate]


def test_a_queued_task_can_be_cancelled_and_a_running_one_cannot(
    shared_pool: SharedPool, gate: Gate, tmp_path: Path
) -> None:
    pool = shared_pool.pool
    running = [pool.submit(hold, gate, number) for number in range(2)]
    waiting = [pool.submit(tasks.note, tmp_path / f"notes-{number}") for number in range(4)]
    for _ in range(2):
        gate.arrived()
    assert [future.cancel() for future in running] == [False, False]
    assert [future.cancel() for future in waiting[::2]] == [True, True]
    gate.open(2)
    for future in waiting[1::2]:
        future.result(BOUND)
    for number, future in enumerate(waiting):
        assert future.cancelled() == (number % 2 == 0)
        assert (tmp_path / f"notes-{number}").exists() == (number % 2 == 1)
    with pytest.raises(CancelledError):
        waiting[0].result(BOUND)
    done, _ = wait(waiting, BOUND)
    assert len(done) == 4
    assert [future.result(BOUND) for future in running] == [0, 1]


def test_cancel_and_dispatch_never_both_win(shared_pool: SharedPool, tmp_path: Path) -> None:
    pool = shared_pool.pool
    path = tmp_path / "notes"
    cancelled = ran = 0
    for number in range(400):
        future = pool.submit(tasks.note, path, str(number))
        for _ in range(number % 40):  # A little longer each time, to hit every moment.
            os.getpid()
        if future.cancel():
            cancelled += 1
        else:
            future.result(BOUND)
            ran += 1
    pool.submit(tasks.own_pid).result(BOUND)
    notes = tasks.notes(path)
    assert len(notes) == len(set(notes)) == ran
    assert cancelled + ran == 400
    assert pool.stats().queued == pool.stats().running == 0


def test_many_threads_cancel_one_task_once(shared_pool: SharedPool, make_gate: MakeGate) -> None:
    pool, place = shared_pool.pool, make_gate()
    running = [pool.submit(hold, place) for _ in range(2)]
    called: list[Future[Any]] = []
    for _ in range(30):
        future = pool.submit(tasks.own_pid)
        future.add_done_callback(called.append)
        barrier = threading.Barrier(4)

        def cancel(future: Future[int] = future, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait(BOUND)
            return future.cancel()

        with ThreadPoolExecutor(4) as threads:
            answers = [threads.submit(cancel) for _ in range(4)]
            assert all(answer.result(BOUND) for answer in answers)
    assert len(called) == 30
    place.open(2)
    for future_ in running:
        future_.result(BOUND)


def test_kill_ends_a_running_task_and_drops_a_queued_one(
    shared_pool: SharedPool, gate: Gate
) -> None:
    pool = shared_pool.pool
    running = [pool.submit(hold, gate, "unharmed") for _ in range(2)]
    queued = pool.submit(tasks.own_pid)
    pids = {gate.arrived(), gate.arrived()}
    assert queued.kill()
    assert queued.cancelled()
    victim, other = running
    assert victim.kill()
    error = outcome(victim)
    assert isinstance(error, WorkerDied)
    assert error.started
    assert error.pid in pids
    assert error.pid == victim.info.pid
    processes.wait_gone(error.pid)
    assert not victim.kill()
    gate.open()
    assert other.result(BOUND) == "unharmed"
    assert not other.kill()


@pytest.mark.parametrize("name", ["hangs_with_the_gil", "is_stopped", "hangs_deaf_to_signals"])
def test_kill_ends_whatever_hangs(shared_pool: SharedPool, gate: Gate, name: str) -> None:
    future = shared_pool.pool.submit(tasks.announce_and, gate, name)
    pid = gate.arrived()
    assert future.kill()
    assert isinstance(outcome(future), WorkerDied)
    processes.wait_gone(pid)


def test_kill_racing_the_end_of_a_task_settles_it_once(shared_pool: SharedPool) -> None:
    pool = shared_pool.pool
    killed = 0
    for number in range(30):
        future = pool.submit(tasks.echo, number)
        for _ in range(number * 20):
            os.getpid()
        future.kill()
        if future.cancelled():
            continue
        error = outcome(future)
        killed += error is not None
        assert error is None or isinstance(error, WorkerDied)
    pool.wait_warm(BOUND)
    assert pool.submit(tasks.echo, "fine").result(BOUND) == "fine"


def test_waiting_for_the_first_of_several_works_with_failed_ones(
    shared_pool: SharedPool, gate: Gate
) -> None:
    pool = shared_pool.pool
    blocking = pool.submit(hold, gate)
    failing = pool.submit(faults.exits_with_3)
    done, _ = wait([blocking, failing], BOUND, FIRST_COMPLETED)
    assert done == {failing}
    gate.open()
    blocking.result(BOUND)
