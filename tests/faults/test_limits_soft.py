"""Soft limits: a task may clean up before it is killed, wherever it hangs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import limits, processes, tasks
from tests.helpers.gate import Gate
from tests.helpers.waiting import BOUND, outcome
from warmpool import RemoteTraceback, SoftTimeout, TaskTimeout, WarmPool, WorkerDied

MakePool = Callable[..., WarmPool]


def warm(pool: WarmPool) -> WarmPool:
    """Have its worker import the tasks' module: a limit that passes before a task's first line
    leaves it nothing to clean up.
    """
    assert pool.submit(limits.count_to, 1).result(BOUND) == 1
    return pool


@pytest.mark.parametrize("way", limits.WAYS)
def test_a_task_is_asked_to_end_wherever_it_waits(
    make_pool: MakePool, start_method: str, tmp_path: Path, way: str
) -> None:
    pool = warm(make_pool(1))
    future = pool.options(soft_timeout=0.4).submit(limits.clean_up, way, tmp_path / "notes")
    assert future.result(BOUND) == "cleaned up"
    assert tasks.notes(tmp_path / "notes") == [(future.info.pid, "0.4")]
    assert pool.submit(tasks.own_pid).result(BOUND) == future.info.pid, "the worker lives on"


def test_what_the_task_lets_pass_is_its_answer(make_pool: MakePool, start_method: str) -> None:
    pool = warm(make_pool(1))
    future = pool.options(soft_timeout=0.4, timeout=60.0).submit(limits.wait, "sleep")
    error = outcome(future)
    assert type(error) is SoftTimeout
    assert error.limit == 0.4
    assert error.left is not None
    assert 0 < error.left <= 59.6
    assert "soft_timeout of 0.4 s" in str(error)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "in sleep" in str(error.__cause__)


def test_a_task_that_refuses_to_end_runs_into_its_limit(
    make_pool: MakePool, start_method: str, tmp_path: Path
) -> None:
    pool = warm(make_pool(1))
    view = pool.options(soft_timeout=0.4, timeout=2.0)
    error = outcome(view.submit(limits.refuse_to_end, tmp_path / "notes"))
    assert type(error) is TaskTimeout
    assert error.limit == 2.0
    assert [text for _, text in tasks.notes(tmp_path / "notes")] == ["refused"], "asked once"
    assert error.pid is not None
    processes.wait_gone(error.pid)


def test_a_limit_that_comes_before_the_worker_has_read_the_task_holds(
    make_pool: MakePool, start_method: str, tmp_path: Path
) -> None:
    """Nothing is there yet that could be interrupted."""
    pool = make_pool(1)
    for _ in range(50):
        view = pool.options(soft_timeout=1e-6)
        future = view.submit(limits.clean_up, "sleep", tmp_path / "notes")
        assert future.exception(BOUND) is None or isinstance(future.exception(), SoftTimeout)


def test_a_limit_that_comes_as_the_task_ends_costs_nobody_else(
    make_pool: MakePool, start_method: str
) -> None:
    """It hits the task that it is meant for, or none; never the next, nor the worker."""
    pool = make_pool(1)
    pid = pool.submit(tasks.own_pid).result(BOUND)
    hit = 0
    for n in range(1, 200):
        short = pool.options(soft_timeout=n * 1e-5).submit(limits.count_to, 10_000)
        after = pool.submit(limits.count_to, 10_000)
        hit += isinstance(outcome(short), SoftTimeout)
        assert after.result(BOUND) == 10_000
    assert hit
    assert pool.submit(tasks.own_pid).result(BOUND) == pid


def test_kill_with_a_grace_lets_the_task_clean_up(
    make_pool: MakePool, start_method: str, gate: Gate, tmp_path: Path
) -> None:
    pool = make_pool(1)
    future = pool.submit(limits.clean_up, "sleep", tmp_path / "notes", gate)
    pid = gate.arrived()
    assert future.kill(grace=60.0)
    assert future.result(BOUND) == "cleaned up"
    assert tasks.notes(tmp_path / "notes") == [(pid, "None")]
    assert pool.submit(tasks.own_pid).result(BOUND) == pid


def test_after_the_grace_the_task_is_killed(
    make_pool: MakePool, start_method: str, gate: Gate, tmp_path: Path
) -> None:
    pool = make_pool(1)
    future = pool.submit(limits.refuse_to_end, tmp_path / "notes", gate)
    gate.arrived()
    assert future.kill(grace=0.2)
    error = outcome(future)
    assert type(error) is WorkerDied
    assert "TaskFuture.kill()" in str(error)
    assert not future.kill(grace=1.0)


def test_a_grace_has_to_be_a_number_of_seconds(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(1, start_method="fork")
    future = pool.submit(gate.hold)
    gate.arrived()
    with pytest.raises(ValueError, match="grace"):
        future.kill(grace=-1.0)
    gate.open()
    assert outcome(future) is None
