"""Telling of a settled future while somebody holds its lock."""

from __future__ import annotations

import threading
from concurrent.futures import wait

import pytest

from tests.helpers.waiting import BOUND
from warmpool import payload
from warmpool.announcer import FIRST_RETRY, LONGEST_RETRY, Announcer
from warmpool.future import TaskFuture
from warmpool.parker import Parkers


class Control:
    is_foreign = False
    parkers = Parkers()

    def cancelled(self, task):
        pass

    def kill(self, task):
        pass


class Loop:
    def __init__(self):
        self.timers = []

    def call_at(self, when, callback):
        self.timers.append((when, callback))


class Callbacks:
    def __init__(self):
        self.calls = []

    def put(self, function, *args):
        self.calls.append((function, args))


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def callbacks():
    return Callbacks()


@pytest.fixture
def announcer(loop, callbacks):
    return Announcer(loop, callbacks, "test")


def settled():
    future = TaskFuture(Control(), 1, 0.0)
    future.handed_over(1, 0.0)
    future.settle_returned(bytes(payload.dumps(5)), 1.0)
    return future


class Holder:
    """Another thread that holds a future's lock, as a stopped wait() does."""

    def __init__(self, future):
        self._release, self._held = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, args=(future,))
        self._thread.start()
        assert self._held.wait(BOUND)

    def _hold(self, future):
        with future._condition:
            self._held.set()
            self._release.wait(BOUND)

    def release(self):
        self._release.set()
        self._thread.join()


def test_a_free_lock_is_taken_at_once(announcer, loop, callbacks):
    future = settled()
    future._condition  # noqa: B018 - made by who asks for it, as wait() does
    announcer.announce(future)
    assert not loop.timers
    assert not callbacks.calls


def test_callbacks_go_to_their_runner(announcer, callbacks):
    future = TaskFuture(Control(), 1, 0.0)
    future.add_done_callback(print)
    future.handed_over(1, 0.0)
    future.settle_returned(bytes(payload.dumps(5)), 1.0)
    assert future.has_audience
    announcer.announce(future)
    assert callbacks.calls == [(print, (future,))]


def test_a_taken_lock_is_tried_again_ever_more_rarely(announcer, loop, monkeypatch):
    monkeypatch.setattr("warmpool.announcer.time.monotonic", lambda: 0.0)
    futures = [settled() for _ in range(3)]
    holders = [Holder(future) for future in futures]
    for future in futures:
        announcer.announce(future)
    assert len(loop.timers) == 1, "one timer for all of them"
    for _ in range(10):
        loop.timers[-1][1]()
    waits = [when for when, _ in loop.timers]
    assert waits[0] == FIRST_RETRY
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_RETRY
    for holder in holders:
        holder.release()
    loop.timers[-1][1]()
    assert not announcer._waiting
    assert len(loop.timers) == 11
    assert not wait(futures, timeout=0).not_done


def test_at_the_end_a_thread_that_may_wait_takes_over(announcer):
    future = TaskFuture(Control(), 1, 0.0)
    called = threading.Event()
    future.add_done_callback(lambda _: called.set())
    future.handed_over(1, 0.0)
    future.settle_returned(bytes(payload.dumps(5)), 1.0)
    holder = Holder(future)
    announcer.announce(future)
    announcer.close()
    assert not called.is_set()
    holder.release()
    assert called.wait(BOUND)


def test_without_a_thread_the_end_itself_waits(announcer, monkeypatch):
    def none_left(_):
        raise RuntimeError("can't start new thread")

    future = settled()
    holder = Holder(future)
    announcer.announce(future)
    monkeypatch.setattr("warmpool.announcer.threading.Thread.start", none_left)
    holder._release.set()
    announcer.close()
    holder._thread.join()
    assert future._announced
