"""Starts that hang are broken off, and cost no other start. No process: these starts all fail."""

from __future__ import annotations

import queue
import threading

import pytest

from tests.helpers.waiting import BOUND
from warmpool.child import Terms
from warmpool.launcher import Launcher
from warmpool.plan import News, Plan


class Hung(Exception):
    """What becomes of a start."""


class HangingMethod:
    """Each start hangs until it is released, and then fails."""

    name = "forkserver"
    via_server = True
    pickles = True

    def __init__(self):
        self.began = queue.SimpleQueue()
        self.release = {worker: threading.Event() for worker in (1, 2, 3)}
        self.on_break_off = lambda: None

    def open(self, plan, news):
        pass

    def start(self, endpoints, name, ordered_at):
        worker = int(name.rpartition("-")[2])
        self.began.put(worker)
        assert self.release[worker].wait(BOUND)
        raise Hung(worker)

    def abandon(self):
        pass

    def break_off(self):
        self.on_break_off()

    def close(self):
        pass


@pytest.fixture
def method():
    return HangingMethod()


@pytest.fixture
def reports():
    return queue.SimpleQueue()


@pytest.fixture
def launcher(method, reports):
    launcher = Launcher(
        method,
        Plan("test", 60.0),
        Terms("test", (1.0, 1.0)),
        lambda worker, outcome: reports.put((worker, str(outcome))),
        News(lambda _watch: None, lambda _error, _consequence, _level: None),
    )
    launcher.open()
    yield launcher
    for release in method.release.values():
        release.set()
    for each in (launcher, launcher._heir):
        if each is not None:
            each.close()
            assert each.join(BOUND)


def test_a_start_behind_one_that_hangs_is_the_heirs(launcher, method, reports):
    launcher.start(1)
    launcher.start(2)
    assert method.began.get(timeout=BOUND) == 1
    heir = launcher.break_off(1)
    assert method.began.get(timeout=BOUND) == 2
    assert heir._current == 2
    method.release[2].set()
    assert reports.get(timeout=BOUND) == (2, "2")
    method.release[1].set()
    assert launcher.join(BOUND)
    assert reports.empty()  # Its end was told by who broke it off.


def test_a_start_that_the_old_thread_takes_while_it_is_broken_off_is_reported(
    launcher, method, reports, monkeypatch
):
    """The kill that breaks a start off lets the thread go on, to the next start, at any moment."""
    make_heir = launcher._make_heir

    def make_late():
        method.release[1].set()
        assert method.began.get(timeout=BOUND) == 2
        return make_heir()

    launcher.start(1)
    assert method.began.get(timeout=BOUND) == 1
    launcher.start(2)
    monkeypatch.setattr(launcher, "_make_heir", make_late)
    heir = launcher.break_off(1)
    assert heir is not None
    assert reports.get(timeout=BOUND) == (1, "1")  # Faster than its end; nobody minds.
    # It hangs too, and is still the old one's.
    assert heir.break_off(2) is None
    assert launcher.break_off(2) is heir
    heir.start(3)
    assert method.began.get(timeout=BOUND) == 3
    method.release[3].set()
    assert reports.get(timeout=BOUND) == (3, "3")


def test_one_whose_turn_has_not_come_is_not_broken_off(launcher, method):
    launcher.start(1)
    launcher.start(2)
    assert method.began.get(timeout=BOUND) == 1
    assert launcher.break_off(2) is None
