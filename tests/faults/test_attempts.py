"""A task that never started is run elsewhere; one that may have, only if that was asked for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.conftest import SharedPool
from tests.helpers import faults, processes, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import (
    PoolClosed,
    WarmPool,
    WorkerDied,
)
from warmpool.lending import Lender

MakePool = Callable[..., WarmPool]

# ------------------------------------------------------------------------------- running once


@pytest.mark.parametrize("way", ["by a lease", "by the supervisor"])
def test_a_task_that_never_started_is_run_elsewhere(
    make_pool: MakePool,
    start_method: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    if way == "by the supervisor":
        monkeypatch.setattr(Lender, "take", lambda _lender, _submission: False)
    pool = make_pool(1)
    for round_ in range(8):
        pid = pool.submit(tasks.own_pid).result(BOUND)
        # It gets the task, and does not live to read it.
        os.kill(pid, signal.SIGSTOP)
        path = tmp_path / f"notes-{round_}"
        future = pool.submit(tasks.note, path, "ran")
        until(future.running, "the task is handed over")
        assert future.info.pid == pid
        os.kill(pid, signal.SIGKILL)
        assert future.result(BOUND) != pid
        assert future.info.attempts == 2
        assert future.info.pid == future.result()
        assert len(tasks.notes(path)) == 1


def test_a_task_that_lands_on_a_dying_worker_runs_elsewhere(
    make_pool: MakePool, start_method: str, tmp_path: Path
) -> None:
    pool = make_pool(2)
    for round_ in range(15):
        pid = pool.submit(tasks.own_pid).result(BOUND)
        path = tmp_path / f"notes-{round_}"
        # No order between the two: sometimes the death is learnt first, sometimes it is not.
        os.kill(pid, signal.SIGKILL)
        future = pool.submit(tasks.note, path, "ran")
        assert future.result(BOUND) != pid
        assert len(tasks.notes(path)) == 1
    pool.wait_warm(BOUND)


@pytest.mark.parametrize("name", ["dies_of_sigkill", "exits_with_0"])
def test_a_task_that_may_have_started_is_not_run_again(
    shared_pool: SharedPool, tmp_path: Path, name: str
) -> None:
    future = shared_pool.pool.submit(tasks.note_and, tmp_path / "notes", name)
    error = outcome(future)
    assert isinstance(error, WorkerDied)
    assert error.started
    assert future.info.attempts == 1
    assert len(tasks.notes(tmp_path / "notes")) == 1


def test_a_task_that_scribbles_over_its_workers_memory_is_not_run_again(
    shared_pool: SharedPool, tmp_path: Path
) -> None:
    """What the flight recorder says then is no proof that the task never started."""
    notes = tmp_path / "notes"
    error = outcome(shared_pool.pool.submit(tasks.scribble_and_exit, notes))
    assert isinstance(error, WorkerDied)
    assert error.started
    assert len(tasks.notes(notes)) == 1


def test_a_task_whose_arguments_kill_each_worker_before_it_starts_is_given_up(
    make_pool: MakePool, start_method: str
) -> None:
    """As one does whose arguments do not fit into memory: it must not go round for ever."""
    pool = make_pool(1)
    stop = threading.Event()

    def kill_whoever_gets_it() -> None:
        while not stop.is_set():
            pid = future.info.pid
            if pid is not None and not future.done():
                processes.kill(pid)
            stop.wait(0.001)

    pid = pool.submit(tasks.own_pid).result(BOUND)
    os.kill(pid, signal.SIGSTOP)
    # Too large for the pipe: the worker cannot have read it when it is killed.
    future = pool.submit(len, bytes(50_000_000))
    with ThreadPoolExecutor(1) as threads:
        killing = threads.submit(kill_whoever_gets_it)
        error = outcome(future)
        stop.set()
        killing.result(BOUND)
    assert isinstance(error, WorkerDied)
    assert not error.started
    assert 1 < future.info.attempts < 20


# ------------------------------------------------------------------------------- retries


@pytest.mark.parametrize("name", ["dies_of_sigkill", "hangs_asleep", "writes_garbage"])
def test_retries_run_a_task_again_after_its_worker_was_lost(
    shared_pool: SharedPool, tmp_path: Path, name: str
) -> None:
    view = shared_pool.pool.options(retries=2, timeout=0.4 if "hangs" in name else None)
    future = view.submit(tasks.fail_until, tmp_path / "notes", 3, name)
    assert future.result(BOUND) == 3
    assert future.info.attempts == 3


def test_retries_are_counted(shared_pool: SharedPool, tmp_path: Path) -> None:
    view = shared_pool.pool.options(retries=2)
    future = view.submit(tasks.fail_until, tmp_path / "notes", 4, "exits_with_3")
    error = outcome(future)
    assert isinstance(error, WorkerDied)
    assert error.exitcode == 3
    assert len(tasks.notes(tmp_path / "notes")) == 3


def test_what_a_task_raises_is_its_result_and_not_retried(
    shared_pool: SharedPool, tmp_path: Path
) -> None:
    view = shared_pool.pool.options(retries=5)
    future = view.submit(tasks.fail_until, tmp_path / "notes", 3, "raises")
    assert isinstance(outcome(future), faults.Oops)
    assert len(tasks.notes(tmp_path / "notes")) == 1


def test_a_killed_task_is_not_retried(shared_pool: SharedPool, gate: Gate) -> None:
    future = shared_pool.pool.options(retries=5).submit(hold, gate)
    gate.arrived()
    assert future.kill()
    assert isinstance(outcome(future), WorkerDied)
    assert gate.nobody_waits()


def test_a_task_that_waits_for_its_retry_ends_with_the_pool(
    make_pool: MakePool, gate: Gate, tmp_path: Path
) -> None:
    pool = make_pool(1, start_method="fork")
    dying = pool.options(retries=1).submit(tasks.hold_and, gate, "exits_with_3")
    gate.arrived()
    blocking = pool.submit(hold, gate)
    assert pool.stats().queued == 1
    gate.open()  # It dies, and waits behind the other one.
    gate.arrived()
    pool.shutdown(wait=False, cancel_futures=True)
    # Else the end of the other one may come to the pool before the word of the shutdown. (Health is
    # CLOSED at once, whatever the supervisor has heard.)
    pool.stats()
    gate.open()
    assert blocking.result(BOUND) is None
    # It was handed over once, so that it cannot be cancelled any more.
    error = None if dying.cancelled() else outcome(dying)
    assert dying.done()
    assert dying.cancelled() or isinstance(error, PoolClosed | WorkerDied)
    pool.shutdown()


# ------------------------------------------------------------------------------- recycling


@pytest.mark.parametrize("limit", [1, 3])
def test_a_worker_is_replaced_after_so_many_tasks(
    make_pool: MakePool, start_method: str, limit: int
) -> None:
    pool = make_pool(1, max_tasks_per_child=limit)
    pids = [pool.submit(tasks.own_pid).result(BOUND) for _ in range(3 * limit + 1)]
    expected = [pids[i] for i in range(0, len(pids), limit) for _ in range(limit)]
    assert pids == expected[: len(pids)]
    assert len(set(pids)) == 4
    for pid in set(pids[:-1]):
        processes.wait_gone(pid)


def test_a_backlog_is_worked_off_by_workers_that_are_replaced(
    make_pool: MakePool, start_method: str, tmp_path: Path
) -> None:
    """ProcessPoolExecutor stops after two of ten (cpython#115634)."""
    pool = make_pool(2, max_tasks_per_child=2)
    futures = [pool.submit(tasks.note, tmp_path / "notes", str(number)) for number in range(10)]
    pids = [future.result(BOUND) for future in futures]
    assert max(pids.count(pid) for pid in pids) <= 2
    assert len(tasks.notes(tmp_path / "notes")) == 10
    pool.shutdown()
