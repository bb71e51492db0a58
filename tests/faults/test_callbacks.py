"""Callbacks run off the supervisor's thread, and whatever they do harms nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
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
        assert calls == [future]
