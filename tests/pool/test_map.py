"""``map``: lazy, ordered, chunked, limited, and cancelled when its consumer goes away."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.helpers import faults, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.waiting import BOUND, until
from warmpool import PoolSaturated, WarmPool, WorkerDied
from warmpool.notices import TaskQueued

MakePool = Callable[..., WarmPool]


@pytest.mark.parametrize("chunksize", [1, 2, 3, 7, 100])
def test_results_come_in_the_order_of_their_inputs(shared_pool: WarmPool, chunksize: int) -> None:
    results = shared_pool.map(pow, range(7), [2] * 9, chunksize=chunksize)
    assert list(results) == [number**2 for number in range(7)]
    assert list(shared_pool.map(abs, [], chunksize=chunksize)) == []


@pytest.mark.parametrize("chunksize", [1, 3])
def test_the_first_failure_is_raised_in_its_place(shared_pool: WarmPool, chunksize: int) -> None:
    results = shared_pool.map(int, ["1", "2", "3", "four", "5"], chunksize=chunksize)
    assert [next(results) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(ValueError, match="four"):
        next(results)
    assert list(results) == []


def test_work_begins_before_the_first_result_is_asked_for(
    shared_pool: WarmPool, gate: Gate
) -> None:
    results = shared_pool.map(hold, [gate] * 2, "ab")
    gate.arrived()
    gate.arrived()
    gate.open(2)
    assert list(results) == ["a", "b"]


def test_results_are_handed_out_as_they_come(shared_pool: WarmPool, gate: Gate) -> None:
    results = shared_pool.map(tasks.hold_odd, [gate] * 2, [0, 1])
    assert next(results) == 0
    gate.open()
    assert next(results) == 1


def test_a_time_limit_counts_from_the_call(shared_pool: WarmPool, gate: Gate) -> None:
    results = shared_pool.map(hold, [gate] * 4, range(4), timeout=0.2)
    with pytest.raises(TimeoutError):
        next(results)
    # What had not started is cancelled.
    until(lambda: shared_pool.stats().queued == 0, "the rest is cancelled")
    gate.open(2)


@pytest.mark.parametrize("how", ["close", "forget", "fail", "leave"])
def test_what_is_left_is_cancelled_when_the_consumer_goes_away(
    shared_pool: WarmPool, gate: Gate, how: str
) -> None:
    before = shared_pool.stats().tasks_settled.get("cancelled", 0)
    blocking = shared_pool.submit(hold, gate)
    gate.arrived()
    # The other worker does the first call, and holds in the second.
    inputs = ["no number" if how == "fail" else 0, *range(1, 10)]
    results = shared_pool.map(tasks.hold_odd, [gate] * 10, inputs)
    gate.arrived()
    assert shared_pool.stats().queued == 8
    if how == "close":
        results.close()  # type: ignore[attr-defined]
    elif how == "leave":
        with pytest.raises(faults.Oops):
            _leave(results)
    elif how == "fail":
        with pytest.raises(TypeError):
            next(results)
    del results
    gc.collect()
    until(lambda: shared_pool.stats().queued == 0, "the rest is cancelled")
    assert shared_pool.stats().tasks_settled.get("cancelled", 0) == before + 8
    gate.open(2)
    assert blocking.result(BOUND) is None
    until(lambda: shared_pool.stats().running == 0, "what was running is over")
    assert gate.nobody_waits()


def _leave(results: Iterator[int]) -> None:
    for _ in results:
        raise faults.Oops


@pytest.mark.parametrize("chunksize", [1, 3])
def test_an_input_without_end_is_consumed_as_its_results_are(
    shared_pool: WarmPool, chunksize: int
) -> None:
    taken = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    results = shared_pool.map(tasks.echo, numbers(), buffersize=5, chunksize=chunksize)
    assert len(taken) == 5 * chunksize
    for number in range(20):
        assert next(results) == number
        # The buffer, and the one that was handed out.
        assert len(taken) <= (number // chunksize + 6) * chunksize
    results.close()  # type: ignore[attr-defined]


def test_a_worker_that_dies_fails_its_own_call(shared_pool: WarmPool) -> None:
    names = ["echo", "dies_of_sigkill", "echo"]
    results = shared_pool.map(tasks.echo_or, names)
    assert next(results) == "echo"
    with pytest.raises(WorkerDied):
        next(results)


def test_an_input_that_fails_leaves_nothing_in_the_queue(shared_pool: WarmPool, gate: Gate) -> None:
    blocking = [shared_pool.submit(hold, gate) for _ in range(2)]

    def inputs() -> Iterator[int]:
        yield 1
        yield 2
        raise faults.Oops

    with pytest.raises(faults.Oops):
        shared_pool.map(tasks.echo, inputs())
    until(lambda: shared_pool.stats().queued == 0, "what was submitted is cancelled")
    gate.open(2)
    for future in blocking:
        future.result(BOUND)


def test_a_full_queue_is_met_by_map_as_by_submit(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(1, start_method="fork", max_queue=3)
    blocking = pool.submit(hold, gate)
    gate.arrived()
    with pytest.raises(PoolSaturated):
        pool.map(tasks.echo, range(10))
    until(lambda: pool.stats().queued == 0, "what was submitted is cancelled")
    results = pool.map(tasks.echo, range(10), buffersize=3)
    gate.open()
    blocking.result(BOUND)
    assert list(results) == list(range(10))


@pytest.mark.parametrize(("chunksize", "calls"), [(1, 6), (2, 3), (4, 2), (10, 1)])
def test_chunks_are_tasks(shared_pool: WarmPool, chunksize: int, calls: int) -> None:
    before = shared_pool.stats().tasks_submitted
    assert list(shared_pool.map(tasks.echo, range(6), chunksize=chunksize)) == list(range(6))
    assert shared_pool.stats().tasks_submitted == before + calls


def raise_stop_iteration(number: int) -> int:
    if number == 2:
        raise StopIteration("not the end of anything")
    return number


@pytest.mark.parametrize("iterables", [(range(5),), (range(5), [0] * 5)])
def test_a_stop_iteration_of_the_function_does_not_cut_the_results_short(
    shared_pool: WarmPool, iterables: tuple[Sequence[int], ...]
) -> None:
    function = raise_stop_iteration if len(iterables) == 1 else raise_stop_iteration_of_two
    results = shared_pool.map(function, *iterables, chunksize=4)
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(results)


def raise_stop_iteration_of_two(number: int, _other: int) -> int:
    return raise_stop_iteration(number)


def test_a_chunk_is_called_by_the_name_of_its_function(make_pool: MakePool) -> None:
    notices: list[object] = []
    pool = make_pool(1, on_event=notices.append)
    assert list(pool.map(abs, range(4), chunksize=2)) == [0, 1, 2, 3]
    pool.shutdown()
    names = {notice.name for notice in notices if isinstance(notice, TaskQueued)}
    assert names == {"abs"}
