"""The loop: descriptors, timers and wake-ups, without any worker."""

from __future__ import annotations

import os
import threading
import time
from collections import deque

import pytest

from warmpool.loop import READ, WRITE, Loop, Waker


def turn(loop, timeout, pending):
    loop.call_back(loop.wait(timeout, pending))


@pytest.fixture
def loop():
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        os.close(descriptor)


def test_what_is_ready_is_called_back(loop, pipe):
    reading, writing = pipe
    seen = []
    loop.watch(reading, READ, seen.append)
    os.write(writing, b"x")
    turn(loop, None, [])
    assert seen == [READ]


def test_what_is_forgotten_is_not_called_back_even_within_the_same_batch(loop):
    first, second = os.pipe(), os.pipe()
    called = []

    def forget_the_others(_ready):
        called.append(1)
        for reading, _ in (first, second):
            loop.forget(reading)

    for reading, writing in (first, second):
        loop.watch(reading, READ, forget_the_others)
        os.write(writing, b"x")
    turn(loop, None, [])
    assert called == [1]
    for descriptor in (*first, *second):
        os.close(descriptor)


def test_events_can_be_changed(loop, pipe):
    _, writing = pipe
    seen = []
    loop.watch(writing, WRITE, seen.append)
    loop.rewatch(writing, READ)
    turn(loop, 0, [])
    assert seen == []


def test_a_wake_up_from_another_thread_ends_the_wait(loop):
    inbox: deque[int] = deque()

    def post():
        inbox.append(1)
        loop.wake()

    thread = threading.Thread(target=post)
    thread.start()
    while not inbox:
        turn(loop, None, inbox)
    thread.join()


def test_what_is_posted_before_the_sleep_is_not_slept_over(loop):
    loop.wake()  # Nobody sleeps: not written.
    turn(loop, None, [1])


def test_no_wake_up_is_lost_under_a_storm(loop):
    inbox: deque[int] = deque()
    count, threads = 20_000, 3

    def storm():
        for n in range(count):
            inbox.append(n)
            loop.wake()

    storming = [threading.Thread(target=storm) for _ in range(threads)]
    for thread in storming:
        thread.start()
    seen = 0
    while seen < count * threads:
        turn(loop, None, inbox)
        while inbox:
            inbox.popleft()
            seen += 1
    for thread in storming:
        thread.join()


def test_a_full_waker_does_not_block_and_a_closed_one_writes_nowhere():
    """I12."""
    waker = Waker()
    for _ in range(100_000):
        waker.wake()
    waker.drain()
    waker.close()
    reading, writing = os.pipe()  # Has the numbers that the waker had.
    os.set_blocking(reading, False)
    waker.wake()
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    os.close(reading)
    os.close(writing)
    waker.close()


def test_timers_are_called_in_order_and_once(loop):
    called = []
    for when in (3.0, 1.0, 2.0, 9.0):
        loop.call_at(when, lambda when=when: called.append(when))
    loop.run_timers(3.0)
    loop.run_timers(3.0)
    assert called == [1.0, 2.0, 3.0]
    assert loop.next_timer() == 9.0


def test_a_timer_can_set_another_that_is_due(loop):
    called = []
    loop.call_at(1.0, lambda: loop.call_at(1.0, lambda: called.append(1)))
    loop.run_timers(1.0)
    assert called == [1]
    assert loop.next_timer() is None


def test_a_timeout_ends_the_wait(loop):
    started = time.monotonic()
    turn(loop, 0.01, [])
    assert time.monotonic() - started < 20


def test_a_far_deadline_is_no_error(loop, pipe):
    """epoll takes no more than 24 days."""
    reading, writing = pipe
    loop.watch(reading, READ, lambda _: None)
    os.write(writing, b"x")
    turn(loop, 1e9, [])
