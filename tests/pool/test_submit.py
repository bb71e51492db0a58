"""Ordinary use: submit, results, options, counts, and how a pool ends."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import os
import pickle
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ALL_COMPLETED, FIRST_EXCEPTION, Executor, as_completed, wait
from functools import partial
from typing import Any

import pytest

import warmpool
from tests.helpers import faults, inspect, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import Health, PoolClosed, TaskFuture, TaskTimeout, WarmPool, WorkerDied, core, events

MakePool = Callable[..., WarmPool]

# ------------------------------------------------------------------------------- tasks


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "result"),
    [
        (abs, (-1,), {}, 1),
        (tasks.echo, ({"nested": [1, (2, None)]},), {}, {"nested": [1, (2, None)]}),
        (dict, (), {"fn": 1, "self": 2, "function": 3}, {"fn": 1, "self": 2, "function": 3}),
        (int, ("ff",), {"base": 16}, 255),
        (partial(int, base=2), ("101",), {}, 5),
        (str.upper, ("method",), {}, "METHOD"),
        ("bound method".title, (), {}, "Bound Method"),
        (complex, (1, 2), {}, 1 + 2j),
    ],
)
def test_a_task_is_called_with_its_arguments(
    shared_pool: WarmPool,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    result: Any,
) -> None:
    assert shared_pool.submit(function, *args, **kwargs).result(BOUND) == result


def test_tasks_run_in_workers_and_workers_are_reused(shared_pool: WarmPool) -> None:
    pids = {shared_pool.submit(tasks.own_pid).result(BOUND) for _ in range(10)}
    assert len(pids) <= 2
    assert os.getpid() not in pids


def test_as_many_tasks_run_at_once_as_there_are_workers(shared_pool: WarmPool, gate: Gate) -> None:
    futures = [shared_pool.submit(hold, gate, number) for number in range(5)]
    assert gate.arrived() != gate.arrived()
    assert gate.nobody_waits()
    assert (shared_pool.stats().running, shared_pool.stats().queued) == (2, 3)
    gate.open(5)
    assert [future.result(BOUND) for future in futures] == list(range(5))


def test_tasks_start_in_the_order_of_their_submission(
    make_pool: MakePool, gate: Gate, tmp_path: Any
) -> None:
    pool = make_pool(1, start_method="fork")
    pool.submit(hold, gate)
    futures = [pool.submit(tasks.note, tmp_path / "notes", str(number)) for number in range(20)]
    gate.open()
    wait(futures, BOUND)
    assert [text for _, text in tasks.notes(tmp_path / "notes")] == list(map(str, range(20)))


def test_a_future_tells_where_and_when_its_task_ran(shared_pool: WarmPool, gate: Gate) -> None:
    before = time.monotonic()
    blocking = [shared_pool.submit(hold, gate) for _ in range(2)]
    future = shared_pool.submit(tasks.own_pid)
    assert isinstance(future, TaskFuture)
    queued = future.info
    assert (queued.pid, queued.started, queued.ended, queued.attempts) == (None, None, None, 0)
    gate.open(2)
    pid = future.result(BOUND)
    info = future.info
    assert info.pid == pid
    assert info.attempts == 1
    assert info.started is not None
    assert info.ended is not None
    assert before <= info.queued <= info.started <= info.ended <= time.monotonic()
    wait(blocking, BOUND)


def test_waiting_for_a_result_can_be_limited_without_harm(
    shared_pool: WarmPool, gate: Gate
) -> None:
    future = shared_pool.submit(hold, gate, "later")
    gate.arrived()
    with pytest.raises(TimeoutError):
        future.result(0.01)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.exception(0)
    assert future.running()
    gate.open()
    assert future.result(BOUND) == "later"
    assert future.done()


def test_it_works_with_the_functions_of_concurrent_futures(shared_pool: WarmPool) -> None:
    assert isinstance(shared_pool, Executor)
    futures = [shared_pool.submit(tasks.echo, number) for number in range(6)]
    assert sorted(future.result() for future in as_completed(futures, BOUND)) == list(range(6))
    failing = shared_pool.submit(faults.raises)
    done, _ = wait([failing, *futures], BOUND, FIRST_EXCEPTION)
    assert failing in done
    assert not wait(futures, BOUND, ALL_COMPLETED).not_done


def test_it_works_with_asyncio(shared_pool: WarmPool) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(shared_pool, tasks.echo, number) for number in range(4)]
        wrapped = asyncio.wrap_future(shared_pool.submit(tasks.echo, 4))
        with pytest.raises(faults.Oops):
            await loop.run_in_executor(shared_pool, faults.raises)
        return [*await asyncio.gather(*calls), await wrapped]

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


# ------------------------------------------------------------------------------- options


def test_a_view_has_options_of_its_own(shared_pool: WarmPool, gate: Gate) -> None:
    hasty = shared_pool.options(timeout=0.3, retries=0)
    assert isinstance(hasty, Executor)
    error = outcome(hasty.submit(hold, gate))
    assert isinstance(error, TaskTimeout)
    assert error.limit == 0.3
    assert hasty.options(timeout=None).submit(tasks.echo, 1).result(BOUND) == 1
    assert list(hasty.map(tasks.echo, range(3))) == [0, 1, 2]
    hasty.shutdown()
    with hasty:
        pass
    assert shared_pool.submit(tasks.echo, 2).result(BOUND) == 2
    assert "0.3" in repr(hasty)


def test_options_add_up(shared_pool: WarmPool, tmp_path: Any) -> None:
    view = shared_pool.options(retries=1).options(timeout=BOUND)
    future = view.submit(tasks.fail_until, tmp_path / "notes", 2, "exits_with_3")
    assert future.result(BOUND) == 2


def test_the_pools_limit_is_the_default_of_its_tasks(make_pool: MakePool) -> None:
    pool = make_pool(1, start_method="fork", task_timeout=0.2)
    assert isinstance(outcome(pool.submit(faults.hangs_asleep)), TaskTimeout)


@pytest.mark.parametrize("start_method", ["forkserver", "spawn", "fork"], indirect=True)
def test_contexts_of_multiprocessing_choose_the_start_method(start_method: str) -> None:
    context = multiprocessing.get_context(start_method)
    with WarmPool(1, context) as pool:
        assert pool.start_method == start_method
        assert pool.submit(tasks.echo, 1).result(BOUND) == 1


def test_cloudpickle_carries_functions_that_cannot_be_imported(
    make_pool: MakePool, start_method: str
) -> None:
    pytest.importorskip("cloudpickle")
    captured = [1, 2]
    pool = make_pool(1, pickler="cloudpickle", initializer=lambda: None)
    assert pool.submit(lambda x: (x, captured), 0).result(BOUND) == (0, [1, 2])
    result = pool.submit(lambda: lambda: "a function as a result").result(BOUND)
    assert result() == "a function as a result"
    assert list(pool.map(lambda x: x + 1, range(5), chunksize=2)) == [1, 2, 3, 4, 5]


def test_initializers_get_their_arguments(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(1, initializer=inspect.be_given, initargs=("some", "arguments"))
    assert pool.submit(inspect.given).result(BOUND) == ["some", "arguments"]


# ------------------------------------------------------------------------------- state


def test_a_pool_tells_how_it_is(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(2, start_method="fork", name="tellable", initializer=gate.hold)
    assert (pool.name, pool.max_workers, pool.start_method) == ("tellable", 2, "fork")
    assert pool.health is Health.WARMING
    assert pool.available
    with pytest.raises(TimeoutError, match="tellable"):
        pool.wait_warm(0)
    gate.open(2)
    pool.wait_warm(BOUND)
    pool.wait_warm()
    assert pool.health is Health.READY
    assert repr(pool) == "<WarmPool 'tellable' READY [2 idle | 0 queued]>"
    pool.close()
    assert pool.health is Health.CLOSED
    assert not pool.available
    assert "CLOSED" in repr(pool)
    with pytest.raises(PoolClosed):
        pool.wait_warm(BOUND)


def test_stats_count_what_happened(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(2, start_method="fork")
    pool.wait_warm(BOUND)
    blocking = [pool.submit(hold, gate) for _ in range(2)]
    cancelled = pool.submit(tasks.own_pid)
    stats = pool.stats()
    assert (stats.running, stats.queued, stats.workers) == (2, 1, {"busy": 2})
    assert cancelled.cancel()
    gate.open(2)
    wait(blocking, BOUND)
    outcome(pool.submit(faults.raises))
    outcome(pool.submit(faults.exits_with_3))
    pool.wait_warm(BOUND)
    stats = pool.stats()
    assert stats.health is Health.READY
    assert stats.tasks_submitted == 5
    assert stats.tasks_settled == {"returned": 2, "cancelled": 1, "raised": 1, "failed": 1}
    assert (stats.running, stats.queued, stats.workers_started) == (0, 0, 3)
    assert stats.workers == {"idle": 2}
    with pytest.raises(TypeError):
        stats.workers["idle"] = 3  # type: ignore[index]


def test_errors_survive_pickling(shared_pool: WarmPool) -> None:
    error = outcome(shared_pool.submit(faults.dies_of_sigkill))
    assert isinstance(error, WorkerDied)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is WorkerDied
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
    assert copy.signal == error.signal


def test_a_task_may_let_an_error_of_its_own_pool_pass(shared_pool: WarmPool) -> None:
    error = outcome(shared_pool.submit(tasks.raise_worker_died))
    assert isinstance(error, WorkerDied)
    assert error.pid == 1


# ------------------------------------------------------------------------------- the end


def test_leaving_the_block_waits_for_all_tasks(start_method: str) -> None:
    with WarmPool(2, start_method=start_method) as pool:
        futures = [pool.submit(tasks.echo, number) for number in range(20)]
    assert all(future.done() for future in futures)
    assert [future.result() for future in futures] == list(range(20))
    assert pool.health is Health.CLOSED


def test_shutdown_without_waiting_lets_tasks_finish(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(1, start_method="fork")
    running = pool.submit(hold, gate, "running")
    waiting = pool.submit(tasks.echo, "waiting")
    gate.arrived()
    pool.shutdown(wait=False)
    until(lambda: pool.health is Health.CLOSED, "the pool knows of it")
    for attempt in (partial(pool.submit, abs, 1), partial(pool.map, abs, [1])):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            attempt()
    gate.open()
    assert running.result(BOUND) == "running"
    assert waiting.result(BOUND) == "waiting"
    pool.shutdown()


def test_nothing_can_be_submitted_once_shutdown_has_returned(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late the supervisor's thread learns of it."""
    learnt = threading.Event()
    handle = core.Core.handle

    def slowly(self: core.Core, event: Any, now: float) -> Any:
        if isinstance(event, events.ShutdownRequested):
            learnt.wait(BOUND)
        return handle(self, event, now)

    pool = make_pool(1, start_method="fork")
    pool.wait_warm(BOUND)
    monkeypatch.setattr(core.Core, "handle", slowly)
    pool.shutdown(wait=False)
    try:
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            pool.submit(abs, 1)
    finally:
        learnt.set()


def test_shutdown_can_cancel_what_has_not_started(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(1, start_method="fork")
    running = pool.submit(hold, gate, "running")
    waiting = [pool.submit(tasks.own_pid) for _ in range(5)]
    gate.arrived()
    pool.shutdown(wait=False, cancel_futures=True)
    done, _ = wait(waiting, BOUND)
    assert done == set(waiting)
    assert all(future.cancelled() for future in waiting)
    gate.open()
    assert running.result(BOUND) == "running"
    pool.shutdown(wait=True)
    pool.shutdown(wait=True)


def test_shutdown_works_off_a_queue_though_workers_die(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(1)
    futures = [
        pool.submit(faults.perform, "dies_of_sigkill" if number % 2 else "raises")
        for number in range(6)
    ]
    pool.shutdown()
    assert all(future.done() for future in futures)
    kinds = [type(future.exception()) for future in futures]
    assert kinds == [faults.Oops, WorkerDied] * 3


def test_every_public_name_can_be_had() -> None:
    for name in warmpool.__all__:
        assert getattr(warmpool, name) is not None
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", warmpool.__version__)


def test_an_idle_pool_wakes_up_for_nothing(shared_pool: WarmPool) -> None:
    """No ticks: an idle pool costs no time."""
    until(lambda: shared_pool.stats().workers == {"idle": 2}, "at rest")
    # Having answered that, its thread may still wait for the GIL, which this one has: each 5 ms of
    # that count as one.
    until(lambda: shared_pool._desk._supervisor._loop._asleep, "asleep")
    before = _wake_ups()
    # Nothing happens, and so there is nothing to wait for but time.
    time.sleep(0.3)
    more = {name: count - before.get(name, 0) for name, count in _wake_ups().items()}
    assert sum(more.values()) <= 4, more


def _wake_ups() -> dict[str, int]:
    """How often each thread but this one gave up the processor of its own will."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    counts = {}
    for task in map(int, os.listdir("/proc/self/task")):
        if task != os.getpid():
            with open(f"/proc/self/task/{task}/status") as file:
                text = file.read()
            found = re.search(r"^voluntary_ctxt_switches:\s*(\d+)$", text, re.MULTILINE)
            assert found is not None
            counts[f"{names.get(task)} {task}"] = int(found[1])
    return counts
