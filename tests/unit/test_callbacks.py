"""User code off the supervisor's thread: in order, and no call delays others for long."""

from __future__ import annotations

import logging
import queue
import threading
import time

import pytest

from warmpool.callbacks import PATIENCE, CallbackRunner


@pytest.fixture
def runner(starter):
    runner = CallbackRunner("test-callbacks", starter)
    runner.open()
    yield runner
    runner.close()
    runner.join(10)


def test_calls_run_in_order_on_one_thread(runner):
    done: queue.Queue = queue.Queue()
    for n in range(100):
        runner.put(lambda n=n: done.put((n, threading.current_thread())))
    seen = [done.get(timeout=20) for _ in range(100)]
    assert [n for n, _ in seen] == list(range(100))
    assert {thread for _, thread in seen} == set(runner.threads)


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt()])
def test_what_a_call_raises_is_logged_and_costs_no_thread(runner, caplog, error):
    done = threading.Event()

    def fail():
        raise error

    with caplog.at_level(logging.ERROR, "warmpool"):
        runner.put(fail)
        runner.put(done.set)
        assert done.wait(20)
    assert "exception calling callback" in caplog.text
    assert len(runner.threads) == 1


def test_a_call_that_blocks_delays_others_for_a_moment_only(runner):
    entered, release, done = threading.Event(), threading.Event(), threading.Event()

    def block():
        entered.set()
        release.wait(50)

    runner.put(block)
    assert entered.wait(20)
    runner.put(done.set)
    now = time.monotonic()
    again = runner.relieve(now)
    assert again is None or again > now
    runner.relieve(now + PATIENCE + 1.0)
    assert done.wait(20)
    assert len(runner.threads) == 2
    release.set()


@pytest.mark.parametrize("exponent", range(27))
def test_somebody_comes_however_long_the_machine_is_up(exponent, starter):
    """The clock starts with the machine, and 0.1 s is rounded differently at each power of two."""
    runner, done = CallbackRunner("test-callbacks", starter), threading.Event()
    runner.put(done.set)
    runner.relieve(2.0**exponent * 1.37)
    assert done.wait(20)
    runner.close()
    runner.join(20)


def test_nothing_waits_nothing_to_relieve(runner):
    assert runner.relieve(time.monotonic()) is None
    assert runner.has_none()


def test_threads_that_were_stuck_leave_when_they_come_back(runner):
    gates = [threading.Event() for _ in range(3)]
    entered = [threading.Event() for _ in gates]
    for gate, event in zip(gates, entered, strict=True):
        runner.put(lambda gate=gate, event=event: (event.set(), gate.wait(50)))
    for n, event in enumerate(entered):
        assert event.wait(20)
        runner.relieve(time.monotonic() + (n + 1) * 10)
    for gate in gates:
        gate.set()
    done = threading.Event()
    runner.put(done.set)
    assert done.wait(20)
    runner.close()
    runner.join(20)
    assert not any(thread.is_alive() for thread in runner.threads)
