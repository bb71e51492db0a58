"""Callbacks run off the supervisor's thread, and whatever they do harms nobody."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

import pytest

from tests.faults.conftest import SharedPool
from tests.helpers import faults, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.waiting import BOUND, until
from warmpool import WarmPool

MakePool = Callable[..., WarmPool]


def test_callbacks_that_block_delay_no_other_for_long(
    make_pool: MakePool, gate: Gate, start_method: str
) -> None:
    pool = make_pool(2)
    go_on = threading.Event()
    called: list[int] = []
    # Held until the callbacks are there: a settled future would call them in this thread.
    blocking = [pool.submit(hold, gate) for _ in range(2)]
    for future in blocking:
        future.add_done_callback(lambda _: go_on.wait(BOUND))
    futures = [pool.submit(tasks.echo, number) for number in range(20)]
    for number, future in enumerate(futures):
        future.add_done_callback(lambda _, number=number: called.append(number))
    gate.open(2)
    try:
        # The futures are not delayed at all, the callbacks not for ever.
        assert [future.result(BOUND) for future in futures] == list(range(20))
        until(lambda: len(called) == 20, "all callbacks were called", BOUND / 2)
        assert sorted(called) == list(range(20))
    finally:
        go_on.set()


@pytest.mark.parametrize("error", [faults.Oops, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_a_callback_raises_is_logged_and_harms_nobody(
    shared_pool: SharedPool,
    gate: Gate,
    error: type[BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    raised_on: list[threading.Thread] = []

    def fail(_future: Future[Any]) -> None:
        raised_on.append(threading.current_thread())
        raise error("raised by a callback")

    pool = shared_pool.pool
    called = threading.Event()
    future = pool.submit(hold, gate, 1)
    future.add_done_callback(fail)
    future.add_done_callback(lambda _: called.set())
    gate.open()
    assert future.result(BOUND) == 1
    assert called.wait(BOUND)
    (thread,) = raised_on
    assert thread is not threading.current_thread()
    assert thread.is_alive()
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.exc_info is not None
    assert record.exc_info[0] is error
    # The next one is called as well.
    later = threading.Event()
    following = pool.submit(hold, gate, 2)
    following.add_done_callback(lambda _: later.set())
    gate.open()
    assert following.result(BOUND) == 2
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
        # The first may be on its way still, if the second came too late to go with it.
        until(lambda calls=calls: calls, "the first is called too")
        assert calls == [future]


def test_leaving_the_block_waits_for_callbacks_that_go_on(make_pool: MakePool) -> None:
    """As Executor does; each takes a while, and all of them much longer than a moment."""
    called: list[int] = []

    def note(future: Future[int]) -> None:
        pause.wait(0.02)  # Never set: it takes its time, as a callback may.
        called.append(future.result())

    pause = threading.Event()
    with make_pool(1, start_method="fork") as pool:
        for number in range(100):
            pool.submit(tasks.echo, number).add_done_callback(note)
    assert called == list(range(100))


def test_a_future_that_nobody_holds_ends_on_a_thread_that_may_run_user_code(
    make_pool: MakePool, start_method: str, gate: Gate
) -> None:
    ended_on: queue.SimpleQueue[str] = queue.SimpleQueue()
    pool = make_pool(1, name="p")
    for way in range(4):
        future = pool.submit(hold, gate)
        weakref.finalize(future, lambda: ended_on.put(threading.current_thread().name))
        gate.arrived()
        if way % 2:
            future.add_done_callback(lambda _: None)
        del future
        gate.open()
        assert ended_on.get(timeout=BOUND) != "p-supervisor"


def test_threads_may_be_impossible_to_start_while_somebody_waits(
    make_pool: MakePool, start_method: str
) -> None:
    """A signal handler may wait for the pool in the middle of Thread.start() or enumerate()."""
    pool = make_pool(1)
    pool.wait_warm(BOUND)
    with threading._active_limbo_lock:  # type: ignore[attr-defined]
        futures = [pool.submit(tasks.echo, number) for number in range(3)]
        done, pending = wait(futures, BOUND)
    assert not pending
    assert {future.result() for future in done} == {0, 1, 2}
