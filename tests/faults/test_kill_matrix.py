"""Every fault at every stage of a worker's life costs that worker and its task, nobody else.

Each test has a bystander: a task that runs on the pool's other worker all the while.
"""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Reports, SharedPool, Shelf
from tests.faults.table import Table, words
from tests.helpers import faults, gate, payloads, processes, tasks
from tests.helpers.faults import FAULTS, End
from tests.helpers.gate import Gate
from tests.helpers.waiting import BOUND, outcome
from warmpool import (
    InitializerFailed,
    PayloadError,
    ProtocolError,
    RemoteTraceback,
    TaskTimeout,
    WarmPool,
    WorkerDied,
    WorkerError,
)

LIMIT = 0.5
"""Seconds that a task has which is going to hang."""


@contextmanager
def bystander(pool: WarmPool, gate_: Gate) -> Iterator[int]:
    """Keep the other worker busy, and see that its task comes to no harm.

    Before the bystander is let go a new task is served, which only a refilled slot can do.
    """
    future = pool.submit(gate.hold, gate_, "unharmed")
    pid = gate_.arrived()
    yield pid
    served = pool.submit(tasks.own_pid).result(BOUND)
    assert served != pid
    gate_.open()
    assert future.result(BOUND) == "unharmed"
    assert (future.info.pid, future.info.attempts) == (pid, 1)
    pool.wait_warm(BOUND)
    assert pool.stats().workers == {"idle": 2}


def assert_facts(error: BaseException | None, pid: int | None, stage: str) -> None:
    """The facts that every error of a worker carries."""
    assert isinstance(error, WorkerError)
    assert (error.pid, error.stage) == (pid, stage)
    assert error.worker_id is not None
    assert error.uptime is not None
    assert error.uptime > 0
    assert error.story
    assert str(pid) in str(error)


def _killed_by_its_control_thread(fault: faults.Fault, error: WorkerError) -> bool:
    """Who closes the control channel is killed by its own reader, if that was not blocked yet."""
    return fault.perform is faults.closes_its_descriptors and error.signal == signal.SIGKILL


_ELSEWHERE = "its result, from another worker; logged: "
_NOTHING = "nothing, no task is lost; logged: "
_EITHER = "`ProtocolError`, or `WorkerDied`, SIGKILL"
"""Of one who closes its descriptors: it depends on which thread of the worker was where."""


def _gets(fault: faults.Fault, error: BaseException | None) -> str:
    return _EITHER if fault.perform is faults.closes_its_descriptors else words(error)


# ------------------------------------------------------------------------------- before it is ready


def _order(shared: SharedPool, stage: str, fault: str) -> int:
    """Have a worker replaced by one that commits a fault as it starts; returns the former's pid."""
    former = shared.pool.submit(tasks.own_pid).result(BOUND)
    shared.orders.give(stage, fault)
    os.kill(former, signal.SIGKILL)
    return former


def _failed_start(
    shared: SharedPool, stage: str, reports: Reports
) -> tuple[InitializerFailed, str]:
    """The report of the worker that has followed the order."""
    while True:
        error, line = reports.next()
        if isinstance(error, InitializerFailed) and error.pid == shared.orders.taken_by(stage):
            return error, line


@pytest.mark.parametrize("stage", ["starting", "initializing"])
@pytest.mark.parametrize("name", faults.names(End.RAISES, End.DIES, End.BREAKS))
def test_a_start_that_fails_is_reported_with_its_cause_and_made_up_for(
    shared_pool: SharedPool, reports: Reports, gate: Gate, table: Table, name: str, stage: str
) -> None:
    fault = FAULTS[name]
    with bystander(shared_pool.pool, gate) as busy:
        former = _order(shared_pool, stage, name)
        error, line = _failed_start(shared_pool, stage, reports)
        seconds = shared_pool.orders.seconds_since()
    pid = shared_pool.orders.taken_by(stage)
    assert pid not in (None, former, busy)
    # The second greeting is the one too many.
    assert_facts(error, pid, "initializing" if fault.perform is faults.greets_twice else stage)
    assert not error.started
    assert str(error) in line
    if fault.end is End.RAISES and stage == "initializing":
        assert isinstance(error.__cause__, RemoteTraceback)
        assert name in str(error.__cause__)
        assert error.exitcode is None
    elif fault.end is End.RAISES:
        assert error.exitcode == (3 if fault.perform is faults.calls_sys_exit else 1)
    elif fault.end is End.DIES:
        assert error.exitcode == fault.exitcode
        if fault.exitcode is not None and fault.exitcode < 0:
            assert error.signal == -fault.exitcode
            assert signal.Signals(-fault.exitcode).name in str(error)
    elif not _killed_by_its_control_thread(fault, error):
        assert "broke the protocol" in str(error)
    is_unclear = fault.perform is faults.closes_its_descriptors
    told = "`InitializerFailed`" if is_unclear else words(error)
    table.note(name, stage, _ELSEWHERE + told, seconds)
    processes.wait_gone(pid)


def _hangs_while_starting(start_method: str) -> list[str]:
    # What ends a hang is the same for all of them: all for the cheapest method, two for others.
    if start_method == "fork":
        return faults.names(End.HANGS)
    return [faults.hangs_with_the_gil.__name__, faults.is_stopped.__name__]


@pytest.mark.parametrize("stage", ["starting", "initializing"])
@pytest.mark.parametrize("name", faults.names(End.HANGS))
def test_a_start_that_hangs_is_ended_by_init_timeout_and_made_up_for(
    hasty_shelf: Shelf,
    start_method: str,
    reports: Reports,
    gate: Gate,
    table: Table,
    name: str,
    stage: str,
) -> None:
    if stage == "starting" and name not in _hangs_while_starting(start_method):
        pytest.skip("what ends a hang is the same for all: two of them do")
    shared = hasty_shelf.take()
    with bystander(shared.pool, gate):
        _order(shared, stage, name)
        error, line = _failed_start(shared, stage, reports)
    pid = shared.orders.taken_by(stage)
    assert_facts(error, pid, stage)
    assert error.limit == 0.8
    assert error.uptime is not None
    assert error.uptime >= 0.8
    assert "init_timeout" in line
    assert pid is not None
    table.note(name, stage, _ELSEWHERE + words(error), error.uptime - error.limit, "`init_timeout`")
    processes.wait_gone(pid)


# ------------------------------------------------------------------------------- with a task

_WITH_A_TASK: dict[str, Callable[[Any, str], Future[Any]]] = {
    "unpickling arguments": lambda to, name: to.submit(
        tasks.echo, payloads.fault_on_unpickling(name)
    ),
    "in the task": lambda to, name: to.submit(faults.perform, name),
    "pickling the result": lambda to, name: to.submit(payloads.return_fault_on_pickling, name),
    "writing the result": lambda to, name: to.submit(payloads.write_half_a_result_and, name),
}


def _cases(*ends: End) -> list[Any]:
    """Each fault in each stage that it makes sense in."""
    cases = []
    for name in faults.names(*ends):
        for stage in _WITH_A_TASK:
            if stage == "writing the result" and (
                FAULTS[name].end is not End.DIES or "half" in name or "2_gigabytes" in name
            ):
                continue  # What is written after half a message is the other half.
            if FAULTS[name].end is End.HANGS and stage != "in the task" and name not in _HANGS:
                continue
            cases.append(pytest.param(name, stage, id=f"{name}-{stage.replace(' ', '_')}"))
    return cases


_HANGS = ("hangs_with_the_gil", "is_stopped")


@pytest.mark.parametrize(("name", "stage"), _cases(End.DIES, End.BREAKS))
def test_a_worker_that_dies_or_lies_fails_its_own_task_only(
    shared_pool: SharedPool, gate: Gate, table: Table, name: str, stage: str
) -> None:
    fault = FAULTS[name]
    with bystander(shared_pool.pool, gate) as busy:
        future = _WITH_A_TASK[stage](shared_pool.pool, name)
        error = outcome(future)
        seconds = shared_pool.orders.seconds_since()
        assert future.info.pid != busy  # type: ignore[attr-defined]
    pid = future.info.pid  # type: ignore[attr-defined]
    assert_facts(error, pid, "busy")
    assert isinstance(error, WorkerError)
    assert error.started
    if fault.end is End.DIES:
        assert type(error) is WorkerDied
        assert error.exitcode == fault.exitcode
        expected = -fault.exitcode if fault.exitcode and fault.exitcode < 0 else None
        assert error.signal == expected
    elif not _killed_by_its_control_thread(fault, error):
        assert type(error) is ProtocolError
        assert error.exitcode is None
    table.note(name, stage, _gets(fault, error), seconds)
    processes.wait_gone(pid)


@pytest.mark.parametrize(("name", "stage"), _cases(End.HANGS))
def test_a_hang_does_not_escape_the_time_limit(
    shared_pool: SharedPool, gate: Gate, table: Table, name: str, stage: str
) -> None:
    with bystander(shared_pool.pool, gate):
        future = _WITH_A_TASK[stage](shared_pool.pool.options(timeout=LIMIT), name)
        error = outcome(future)
        now = time.monotonic()
    pid = future.info.pid  # type: ignore[attr-defined]
    assert_facts(error, pid, "busy")
    assert isinstance(error, TaskTimeout)
    assert isinstance(error, TimeoutError)
    assert error.started
    assert error.limit == LIMIT
    started = future.info.started  # type: ignore[attr-defined]
    table.note(name, stage, words(error), now - started - LIMIT, "its `timeout`")
    processes.wait_gone(pid)


@pytest.mark.parametrize(("name", "stage"), _cases(End.RAISES))
def test_what_is_raised_costs_no_worker(
    shared_pool: SharedPool, gate: Gate, table: Table, name: str, stage: str
) -> None:
    started_before = shared_pool.pool.stats().workers_started
    with bystander(shared_pool.pool, gate):
        future = _WITH_A_TASK[stage](shared_pool.pool, name)
        error = outcome(future)
        seconds = shared_pool.orders.seconds_since()
    if stage == "unpickling arguments" or (stage == "pickling the result" and name == "raises"):
        assert isinstance(error, PayloadError)
        assert name in _texts(error)
    else:
        expected = {"raises": faults.Oops, "calls_sys_exit": SystemExit}[name]
        assert type(error) is expected
        assert isinstance(error.__cause__, RemoteTraceback)
        assert name in str(error.__cause__)
    table.note(name, stage, words(error), seconds)
    assert shared_pool.pool.stats().workers_started == started_before


def _texts(error: BaseException | None) -> str:
    """What an error and its causes say."""
    text = ""
    while error is not None:
        text += f"{error}\n"
        error = error.__cause__
    return text


def test_an_answer_counts_though_garbage_follows_it(shared_pool: SharedPool, gate: Gate) -> None:
    with bystander(shared_pool.pool, gate):
        future = shared_pool.pool.submit(faults.answer_and_write_garbage, "done")
        assert outcome(future) is None
        assert future.result() == "done"
        assert future.info.pid is not None
        processes.wait_gone(future.info.pid)


def test_a_task_that_closes_the_workers_descriptors_and_returns_costs_itself(
    shared_pool: SharedPool, gate: Gate
) -> None:
    with bystander(shared_pool.pool, gate):
        error = outcome(shared_pool.pool.submit(faults.close_descriptors))
    assert isinstance(error, WorkerDied)
    assert error.started


def test_a_worker_never_writes_into_a_file_that_has_its_channels_number(
    shared_pool: SharedPool, gate: Gate, tmp_path: Path
) -> None:
    file = tmp_path / "of the task"
    with bystander(shared_pool.pool, gate):
        error = outcome(shared_pool.pool.submit(faults.close_descriptors_and_open, file))
    assert isinstance(error, WorkerDied)
    assert error.started
    # (A traceback may be in it: under fork, the number of sys.stderr is one of those.)
    assert pickle.dumps(error.pid, pickle.HIGHEST_PROTOCOL) not in file.read_bytes()


# ------------------------------------------------------------------------------- without a task


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_the_death_of_an_idle_worker_is_a_non_event(
    shared_pool: SharedPool, reports: Reports, gate: Gate, number: signal.Signals
) -> None:
    pool = shared_pool.pool
    with bystander(pool, gate):
        pid = pool.submit(tasks.own_pid).result(BOUND)
        os.kill(pid, number)
        error, _ = reports.of_worker(pid)
    assert_facts(error, pid, "idle")
    assert isinstance(error, WorkerDied)
    assert error.signal == number
    assert not error.started


def _between_tasks() -> list[str]:
    # A descriptor that another thread closes stays open for the one that blocks in reading it:
    # the host learns of it when the next task's answer cannot be written.
    closing = faults.closes_its_descriptors.__name__
    return [name for name in faults.names(End.DIES, End.BREAKS) if name != closing]


@pytest.mark.parametrize("name", _between_tasks())
def test_a_fault_between_tasks_is_a_non_event(
    shared_pool: SharedPool,
    reports: Reports,
    make_gate: Callable[[], Gate],
    table: Table,
    name: str,
) -> None:
    pool, left_behind = shared_pool.pool, make_gate()
    with bystander(pool, make_gate()):
        pid = pool.submit(tasks.hold_later_and, left_behind, name).result(BOUND)
        assert left_behind.arrived() == pid
        left_behind.open()
        error, _ = reports.of_worker(pid)
        seconds = shared_pool.orders.seconds_since()
    assert_facts(error, pid, "idle")
    assert isinstance(error, WorkerDied if FAULTS[name].end is End.DIES else ProtocolError)
    assert isinstance(error, WorkerError)
    assert error.exitcode == FAULTS[name].exitcode
    table.note(name, "idle", _NOTHING + words(error), seconds)


@pytest.mark.parametrize("name", _HANGS)
def test_a_task_sent_to_an_idle_worker_that_hangs_runs_into_its_limit(
    shared_pool: SharedPool, make_gate: Callable[[], Gate], name: str
) -> None:
    pool, left_behind = shared_pool.pool, make_gate()
    with bystander(pool, make_gate()):
        pid = pool.submit(tasks.hold_later_and, left_behind, name).result(BOUND)
        left_behind.arrived()
        # Stopped by hand first, so that the task comes when it hangs already.
        os.kill(pid, signal.SIGSTOP)
        left_behind.open()
        error = outcome(pool.options(timeout=LIMIT).submit(tasks.own_pid))
    assert_facts(error, pid, "busy")
    assert isinstance(error, TaskTimeout)
    assert not error.started


# ------------------------------------------------------------------------------- leaving


@pytest.fixture(scope="module")
def recycling_shelf(make_shelf: Callable[..., Shelf]) -> Shelf:
    """A pool whose workers leave after each task."""
    return make_shelf(max_tasks_per_child=1, grace=0.4)


@pytest.mark.parametrize("name", faults.names())
def test_a_fault_on_the_way_out_costs_nothing(
    recycling_shelf: Shelf, gate: Gate, table: Table, name: str
) -> None:
    shared = recycling_shelf.take()
    with bystander(shared.pool, gate):
        pid = shared.pool.submit(tasks.commit_at_exit, name).result(BOUND)
        table.note(name, "leaving", "its result")
        processes.wait_gone(pid)


def test_a_thread_that_does_not_end_keeps_a_worker_for_its_grace_only(
    recycling_shelf: Shelf, make_gate: Callable[[], Gate]
) -> None:
    shared = recycling_shelf.take()
    with bystander(shared.pool, make_gate()):
        pid = shared.pool.submit(tasks.leave_a_thread, make_gate()).result(BOUND)
        processes.wait_gone(pid)
