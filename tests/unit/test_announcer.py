"""Telling of a settled future while somebody holds locks that are needed for it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import wait

import pytest

from tests.helpers.waiting import BOUND
from warmpool import payload
from warmpool.announcer import Announcer, announce_waiting
from warmpool.callbacks import PATIENCE, CallbackRunner
from warmpool.future import TaskFuture
from warmpool.parker import Parkers


class Control:
    is_foreign = False
    parkers = Parkers()

    def cancelled(self, task):
        pass

    def kill(self, task, grace):
        pass


@pytest.fixture
def callbacks(starter):
    runner = CallbackRunner("test-callbacks", starter)
    runner.open()
    yield runner
    runner.close()
    runner.join(BOUND)


@pytest.fixture
def announcer(callbacks, starter):
    announcer = Announcer(callbacks, "test", starter)
    yield announcer
    announcer.close()
    announcer.join(BOUND)


def future():
    future = TaskFuture(Control(), 1, 0.0)
    future.handed_over(1, 0.0)
    return future


def settle(future):
    future.settle_returned(bytes(payload.dumps(5)), 1.0)


class Waiter:
    """A thread in ``concurrent.futures.wait()``."""

    def __init__(self, *futures):
        self.done = threading.Event()
        self._thread = threading.Thread(target=self._wait, args=(futures,))
        self._thread.start()
        while not all(future.__dict__.get("_waiters") for future in futures):
            time.sleep(0)

    def _wait(self, futures):
        assert not wait(futures, BOUND).not_done
        self.done.set()

    def join(self):
        self._thread.join(BOUND)
        assert self.done.is_set()


def held(lock):
    """Another thread that holds a lock, as one does that a debugger has stopped."""
    release, holds = threading.Event(), threading.Event()

    def hold():
        with lock:
            holds.set()
            release.wait(BOUND)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holds.wait(BOUND)
    return release, thread


def test_nobody_is_told_who_does_not_ask(announcer):
    lonely = future()
    settle(lonely)
    assert not lonely.has_audience


def test_who_waits_is_told_by_a_thread_that_is_started_then(announcer):
    one, two = future(), future()
    waiter = Waiter(one, two)
    for each in (one, two):
        settle(each)
        announcer.announce(each)
    assert not announcer.has_none()
    announcer.relieve(time.monotonic())
    waiter.join()


def test_a_held_lock_holds_up_neither_the_announcing_thread_nor_another_future(announcer):
    one, two = future(), future()
    waiters = [Waiter(one), Waiter(two)]
    release, holder = held(one._condition)
    settle(one)
    announcer.announce(one)
    announcer.relieve(time.monotonic())
    settle(two)
    announcer.announce(two)
    announcer.relieve(time.monotonic() + 2 * PATIENCE)
    waiters[1].join()
    assert not waiters[0].done.is_set()
    release.set()
    waiters[0].join()
    holder.join()


def test_the_lock_of_a_waiters_event_holds_up_nobody_else(announcer):
    # That, and not the future's, is what a signal handler finds taken that interrupts wait().
    one, two = future(), future()
    waiters = [Waiter(one), Waiter(two)]
    release, holder = held(one._waiters[0].event._cond)
    settle(one)
    announcer.announce(one)
    announcer.relieve(time.monotonic())
    settle(two)
    announcer.announce(two)
    announcer.relieve(time.monotonic() + 2 * PATIENCE)
    waiters[1].join()
    release.set()
    waiters[0].join()
    holder.join()


def test_callbacks_go_to_their_runner(announcer):
    called = threading.Event()
    each = future()
    each.add_done_callback(lambda _: called.set())
    settle(each)
    assert each.has_audience
    announcer.announce(each)
    assert called.wait(BOUND)


def test_at_the_end_the_rest_is_told(announcer):
    one = future()
    waiter = Waiter(one)
    settle(one)
    announcer.announce(one)
    announcer.close()
    waiter.join()


def test_a_thread_that_may_wait_tells_by_itself(caplog):
    one, called = future(), []
    waiter = Waiter(one)
    one.add_done_callback(lambda _: 1 / 0)
    one.add_done_callback(called.append)
    settle(one)
    announce_waiting(one)
    waiter.join()
    assert called == [one]
    assert "exception calling callback" in caplog.text
