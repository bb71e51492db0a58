"""What a pool promises about tasks when workers, callers and callbacks misbehave."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import SharedPool
from tests.helpers import faults, payloads, processes, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import (
    PayloadError,
    PoolClosed,
    PoolSaturated,
    QueueTimeout,
    RemoteTraceback,
    TaskTimeout,
    WarmPool,
    WorkerDied,
)

MakePool = Callable[..., WarmPool]
MakeGate = Callable[[], Gate]

# ------------------------------------------------------------------------------- running once


def test_a_task_that_never_started_is_run_elsewhere(
    make_pool: MakePool, start_method: str, tmp_path: Path
) -> None:
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
    gate.open()
    assert blocking.result(BOUND) is None
    # It was handed over once, so that it cannot be cancelled any more.
    error = None if dying.cancelled() else outcome(dying)
    assert dying.done()
    assert dying.cancelled() or isinstance(error, PoolClosed | WorkerDied)
    pool.shutdown()


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


# ------------------------------------------------------------------------------- cancel and kill


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


# ------------------------------------------------------------------------------- pickling


class _Counted:
    """Notes where and how often it is pickled."""

    pickled: list[tuple[int, int]] = []  # noqa: RUF012

    def __reduce__(self) -> Any:
        self.pickled.append((os.getpid(), threading.get_ident()))
        return str, ("exits_with_3",)


def test_arguments_are_pickled_once_in_the_callers_thread(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = make_pool(1, start_method="fork")
    _Counted.pickled.clear()
    view = pool.options(retries=1)
    future = view.submit(tasks.fail_until, tmp_path / "notes", 2, _Counted())
    # It ran twice, and travelled twice.
    assert future.result(BOUND) == 2
    assert _Counted.pickled == [(os.getpid(), threading.get_ident())]


def test_later_changes_of_an_argument_do_not_reach_the_task(
    shared_pool: SharedPool, gate: Gate
) -> None:
    pool = shared_pool.pool
    running = [pool.submit(hold, gate) for _ in range(2)]
    argument = [1]
    future = pool.submit(tasks.echo, argument)
    argument.append(2)
    gate.open(2)
    assert future.result(BOUND) == [1]
    wait(running, BOUND)


def test_results_are_decoded_once_in_the_thread_that_asks(shared_pool: SharedPool) -> None:
    future = shared_pool.pool.submit(payloads.return_on_unpickling, tasks.whereabouts)
    wait([future], BOUND)
    with ThreadPoolExecutor(1) as threads:
        process, thread = threads.submit(future.result).result(BOUND)
        assert process == os.getpid()
        assert thread == threads.submit(threading.get_ident).result(BOUND)
    assert future.result() == (process, thread)


@pytest.mark.parametrize(
    "argument",
    [lambda: None, threading.Lock(), payloads.OnPickling(faults.raises)],
    ids=["lambda", "lock", "raising"],
)
def test_what_cannot_be_pickled_fails_its_own_future(
    shared_pool: SharedPool, argument: object
) -> None:
    future = shared_pool.pool.submit(tasks.echo, argument)
    error = outcome(future)
    assert isinstance(error, PayloadError)
    assert isinstance(error, pickle.PicklingError)
    assert error.__cause__ is not None
    assert future.info.attempts == 0


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (tasks.return_a_lock, "lock"),
        (tasks.raise_with_a_lock, "Oops"),
        (payloads.raise_two_arguments, "1 and 2"),
        (payloads.raise_unprintable, "Unprintable"),
    ],
)
def test_results_and_exceptions_that_do_not_pickle_fail_their_own_future(
    shared_pool: SharedPool, function: Callable[[], Any], word: str
) -> None:
    started = shared_pool.pool.stats().workers_started
    error = outcome(shared_pool.pool.submit(function))
    assert isinstance(error, PayloadError)
    assert word in str(error)
    assert "Traceback" in str(error.__cause__) or error.__cause__ is not None
    assert shared_pool.pool.stats().workers_started == started


@pytest.mark.parametrize("fault", ["raises", "calls_sys_exit"])
@pytest.mark.parametrize(
    "task",
    [
        payloads.return_on_unpickling,
        payloads.raise_on_unpickling,
        payloads.raise_on_pickling,
    ],
)
def test_what_pickling_or_unpickling_raises_harms_neither_host_nor_worker(
    shared_pool: SharedPool, task: Callable[..., Any], fault: str
) -> None:
    started = shared_pool.pool.stats().workers_started
    future = shared_pool.pool.submit(task, faults.perform, fault)
    error = outcome(future)
    assert isinstance(error, PayloadError)
    assert future.exception() is error
    shared_pool.pool.wait_warm(BOUND)
    assert shared_pool.pool.stats().workers_started == started


def test_a_result_whose_unpickling_hangs_holds_nobody_but_who_asks(
    shared_pool: SharedPool,
    gate: Gate,
) -> None:
    pool = shared_pool.pool
    future = pool.submit(payloads.return_on_unpickling, hold, gate, "after a while")
    raising = pool.submit(payloads.raise_on_unpickling, hold, gate)
    done, _ = wait([future, raising], BOUND)
    assert len(done) == 2
    with ThreadPoolExecutor(2) as threads:
        asking = [threads.submit(future.result), threads.submit(raising.exception)]
        assert gate.arrived() == gate.arrived() == os.getpid()
        assert pool.submit(tasks.echo, "meanwhile").result(BOUND) == "meanwhile"
        gate.open(2)
        assert asking[0].result(BOUND) == "after a while"
        # It became None, which is no exception.
        assert isinstance(asking[1].result(BOUND), PayloadError)


def test_what_a_task_raises_is_raised_as_itself_with_the_workers_traceback(
    shared_pool: SharedPool,
) -> None:
    future = shared_pool.pool.submit(faults.raises)
    with pytest.raises(faults.Oops, match="an ordinary mistake") as caught:
        future.result(BOUND)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert 'in raises\n    raise Oops("an ordinary mistake")' in caught.value.__cause__.tb
    assert future.exception() is caught.value


# ------------------------------------------------------------------------------- callbacks


def test_a_callback_that_blocks_delays_no_other_for_long(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(2)
    go_on = threading.Event()
    called: list[int] = []
    blocking = pool.submit(tasks.echo, -1)
    blocking.add_done_callback(lambda _: go_on.wait(BOUND))
    futures = [pool.submit(tasks.echo, number) for number in range(20)]
    for number, future in enumerate(futures):
        future.add_done_callback(lambda _, number=number: called.append(number))
    # The futures are not delayed at all, the callbacks not for ever.
    assert [future.result(BOUND) for future in futures] == list(range(20))
    until(lambda: len(called) == 20, "all callbacks were called")
    assert not go_on.is_set()
    go_on.set()


@pytest.mark.parametrize("error", [faults.Oops, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_a_callback_raises_harms_nobody(
    shared_pool: SharedPool, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_future: Future[Any]) -> None:
        raise error("raised by a callback")

    pool = shared_pool.pool
    called = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        # Held until the callbacks are there, so that a thread of the pool calls them.
        release = threading.Event()
        submitting = threads.submit(release.wait, BOUND)
        future = pool.submit(tasks.echo, 1)
        future.add_done_callback(fail) if not future.done() else None
        future.add_done_callback(lambda _: called.set())
        release.set()
        submitting.result(BOUND)
    assert future.result(BOUND) == 1
    assert called.wait(BOUND)
    assert pool.submit(tasks.echo, 2).result(BOUND) == 2
    later = threading.Event()
    pool.submit(tasks.echo, 3).add_done_callback(lambda _: later.set())
    assert later.wait(BOUND)


def test_a_callback_may_submit_and_wait_for_what_it_submits(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(2)
    results: list[int] = []
    finished = threading.Event()

    def again(future: Future[int]) -> None:
        if future.result() < 5:
            inner = pool.submit(tasks.echo, future.result() + 1)
            results.append(inner.result(BOUND))
            inner.add_done_callback(again)
        else:
            finished.set()

    pool.submit(tasks.echo, 0).add_done_callback(again)
    assert finished.wait(BOUND)
    assert results == [1, 2, 3, 4, 5]


def test_a_callback_added_late_is_called_at_once_and_each_is_called_once(
    shared_pool: SharedPool,
) -> None:
    future = shared_pool.pool.submit(tasks.echo, 1)
    future.result(BOUND)
    threads: list[int] = []
    future.add_done_callback(lambda _: threads.append(threading.get_ident()))
    assert threads == [threading.get_ident()]
    for _ in range(200):
        future = shared_pool.pool.submit(tasks.echo, 1)
        calls: list[Future[Any]] = []
        called = threading.Event()
        future.add_done_callback(calls.append)
        future.add_done_callback(lambda _, called=called: called.set())
        assert called.wait(BOUND)
        assert calls == [future]


# ------------------------------------------------------------------------------- large payloads

LARGE = 200_000_000


@pytest.mark.parametrize("direction", ["arguments", "results"])
def test_200_megabytes_pass_while_others_are_served(
    make_pool: MakePool, start_method: str, direction: str
) -> None:
    pool = make_pool(2)
    pool.wait_warm(BOUND)
    if direction == "arguments":
        data = bytes(LARGE)
        large: Future[Any] = pool.submit(len, data)
    else:
        large = pool.submit(tasks.large, LARGE)
    served = 0
    while not large.done():
        assert pool.submit(tasks.echo, served).result(BOUND) == served
        served += 1
    result = large.result(BOUND)
    assert (result if direction == "arguments" else len(result)) == LARGE
    assert served > 10


def test_a_worker_that_dies_while_200_megabytes_go_to_it_is_replaced(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(1)
    pid = pool.submit(tasks.own_pid).result(BOUND)
    os.kill(pid, signal.SIGSTOP)
    future = pool.submit(len, bytes(LARGE))
    until(future.running, "the task is handed over")
    os.kill(pid, signal.SIGKILL)
    # It cannot have started what it has not read.
    assert future.result(BOUND) == LARGE
    assert future.info.attempts == 2


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
