"""Callbacks run off the supervisor's thread, and whatever they do harms nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.faults.conftest import SharedPool
from tests.helpers import faults, tasks
from tests.helpers.waiting import BOUND, until
from warmpool import (
    WarmPool,
)

MakePool = Callable[..., WarmPool]


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
