"""Sleeping and waking, with no pool behind it."""

from __future__ import annotations

import gc
import os
import signal
import threading

import pytest

from tests.helpers.waiting import BOUND
from warmpool import parker as parker_module
from warmpool.parker import MOST_PIPES, Parkers


@pytest.fixture
def parkers():
    parkers = Parkers()
    yield parkers
    parkers.close()


@pytest.fixture(params=["pipe", "lock"])
def take(request, parkers):
    """Gives parkers of one kind; not a parker, which pytest would keep for longer than the test."""
    if request.param == "lock":
        parkers._permits.clear()
    return parkers.take


def test_a_token_ends_one_sleep_whichever_comes_first(take):
    parker = take()
    parker.unpark()
    assert parker.park(None)
    assert not parker.park(0.001)
    waker = threading.Thread(target=parker.unpark)
    waker.start()
    assert parker.park(BOUND)
    waker.join()


def test_a_sleep_without_a_bound_ends_by_another_thread(take):
    parker = take()
    waker = threading.Thread(target=parker.unpark)
    waker.start()
    assert parker.park(None)
    waker.join()


def test_an_absurd_timeout_is_no_error(take):
    parker = take()
    parker.unpark()
    assert parker.park(1e12)


def test_what_is_given_back_is_taken_again(parkers):
    first = parkers.take()
    parkers.give_back(first)
    assert parkers.take() is first
    assert parkers.take() is not first


def test_no_more_pipes_than_agreed(parkers):
    def count():
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    before = count()
    taken = [parkers.take() for _ in range(4 * MOST_PIPES)]
    assert count() - before <= 2 * MOST_PIPES
    for parker in taken:
        parker.unpark()
        assert parker.park(0)
        parkers.give_back(parker)


def test_a_lost_one_closes_by_itself_and_may_be_replaced(parkers):
    lost = parkers.take()
    descriptor = lost._reading
    parkers.lose(lost)
    del lost
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    taken = [parkers.take() for _ in range(MOST_PIPES)]
    assert all(hasattr(parker, "_reading") for parker in taken)


def test_without_descriptors_a_lock_has_to_do(parkers, monkeypatch):
    def no_more():
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(parker_module.os, "pipe", no_more)
    parker = parkers.take()
    parker.unpark()
    assert parker.park(0)
    parkers.give_back(parker)


def test_what_comes_back_after_the_end_is_let_go(parkers):
    parker = parkers.take()
    descriptor = parker._reading
    parkers.close()
    parkers.give_back(parker)
    del parker
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_signal_handler_may_park_while_its_thread_does(parkers):
    outer, seen = parkers.take(), []

    def handler(*_):
        inner = parkers.take()
        inner.unpark()
        seen.append(inner.park(BOUND))
        parkers.give_back(inner)
        outer.unpark()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        signal.raise_signal(signal.SIGUSR1)
        assert outer.park(BOUND)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [True]


def test_a_fork_has_no_copy_of_the_pipes(parkers):
    parker = parkers.take()
    if (child := os.fork()) == 0:
        try:
            os.fstat(parker._reading)
        except OSError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
