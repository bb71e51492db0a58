"""Leases and their lender, with pipes in place of workers."""

from __future__ import annotations

import contextlib
import os
import threading

import pytest

from warmpool import wire
from warmpool.channel import make_ends
from warmpool.events import TaskSpec
from warmpool.future import TaskFuture
from warmpool.lease import LONGEST_FRAME, Lease, Submission
from warmpool.lending import SEND_PATIENCE, Lender
from warmpool.parker import Parkers


class Control:
    is_foreign = False
    parkers = Parkers()

    def __init__(self):
        self.killed = []

    def cancelled(self, task):
        raise AssertionError(task)

    def kill(self, task, grace):
        self.killed.append(task)


class Fleet:
    has_turns = False

    def __init__(self, end):
        self.end = end
        self.rests = []
        self.given_up = []

    def lease(self, worker, most):
        assert most == 0
        return Lease(worker, 4711, self.end)

    def send_rest(self, worker, rest):
        self.rests.append((worker, bytes(rest)))

    def give_up(self, worker, task):
        self.given_up.append((worker, task))
        return True


class Loop:
    def __init__(self):
        self.timers = []

    def call_at(self, when, callback):
        self.timers.append(callback)


@pytest.fixture
def ends():
    ours, theirs = make_ends()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def fleet(ends):
    return Fleet(ends[0])


@pytest.fixture
def make_lease(ends):
    """Make leases that are on loan."""

    def make():
        lease = Lease(1, 4711, ends[0])
        lease.lend(lambda lease: None, lambda: None)
        return lease

    return make


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def posted():
    return []


@pytest.fixture
def lender(fleet, loop, posted):
    return Lender(fleet, loop, posted.append, lambda worker: None, Parkers())


def submission(task=7, payload=b"payload", timeout=None):
    return Submission(TaskSpec(task, timeout), TaskFuture(Control(), task, 0.0), payload)


def fill(descriptor):
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"\0" * 1000)


def used(lender):
    """The tasks that took the leases, and their workers."""
    return [(returned.taken, returned.worker) for returned in lender.revoke()]


def test_a_lease_is_made_revoked(ends):
    assert not Lease(1, 4711, ends[0]).take(submission())


def test_one_of_many_takers_gets_it_and_its_owner_learns_who(make_lease):
    for _ in range(200):
        lease = make_lease()
        takers = [submission(task) for task in range(4)]
        start = threading.Barrier(len(takers))
        won = []

        def take(taker, lease=lease, start=start, won=won):
            start.wait()
            if lease.take(taker):
                won.append(taker)

        threads = [threading.Thread(target=take, args=(taker,)) for taker in takers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [lease.revoke().taken] == won
        assert lease.revoke().taken is None


def test_a_race_with_the_owner_has_one_outcome(make_lease):
    for _ in range(500):
        lease = make_lease()
        taker, start, took = submission(), threading.Barrier(2), []

        def take(lease=lease, taker=taker, start=start, took=took):
            start.wait()
            took.append(lease.take(taker))

        thread = threading.Thread(target=take)
        thread.start()
        start.wait()
        revoked = lease.revoke().taken
        thread.join()
        assert took == [revoked is taker]


def test_what_is_lent_is_taken_once_and_sent(lender, ends):
    lender.lend({1: 500}, None)
    first, second = submission(7), submission(8)
    assert lender.take(first)
    assert not lender.take(second)
    assert first.future.running()
    assert not first.future.cancel()
    assert used(lender) == [(first, 1)]
    (message,) = wire.Reader(wire.TO_WORKER).feed(os.read(ends[1].fileno(), 1000))
    assert message == (wire.RUN, 7, b"payload")
    assert not second.future.running()
    assert second.future.info.attempts == 0
    assert second.future.info.pid is None


def test_what_is_revoked_is_not_taken(lender, fleet):
    lender.lend({1: 500}, None)
    stale = lender._leases[0]
    assert lender.revoke() == []
    lender._leases.append(stale)  # As if popped just before.
    late = submission()
    assert not lender.take(late)
    assert late.future.handed_over(1, 0.0), "it can still be dispatched"


def test_a_large_task_is_the_supervisors(lender):
    lender.lend({1: 500}, None)
    assert not lender.take(submission(payload=b"x" * (LONGEST_FRAME + 1)))


def test_what_does_not_fit_is_left_to_the_supervisor(lender, ends, fleet, posted):
    fill(ends[0].fileno())
    lender.lend({1: 500}, None)
    assert lender.take(submission())
    (post,) = posted
    post()
    ((worker, rest),) = fleet.rests
    assert worker == 1
    assert wire.Reader(wire.TO_WORKER).feed(rest) == [(wire.RUN, 7, b"payload")]


def test_a_dead_worker_is_no_error_of_the_submitters(lender, ends, posted):
    ends[1].close()
    lender.lend({1: 500}, None)
    taker = submission()
    assert lender.take(taker)
    assert taker.sent
    assert posted == []


def test_a_limit_before_the_sleepers_alarm_wakes_it(lender, posted):
    lender.lend({1: 500}, 0.0)
    assert lender.take(submission(timeout=5.0))
    assert posted == [], "it is awake by then"
    lender.revoke()
    lender.lend({1: 500}, None)
    assert lender.take(submission(timeout=5.0))
    assert len(posted) == 1
    posted[0]()


def test_an_interrupted_taker_has_its_task_killed(lender, fleet, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Lease, "send", interrupted)
    lender.lend({1: 500}, None)
    taker = submission()
    with pytest.raises(KeyboardInterrupt):
        lender.take(taker)
    assert taker.future._control.killed == [7]
    assert used(lender) == [(taker, 1)], "the core hears of the task before it is to kill it"


def test_a_taker_that_never_writes_costs_the_worker(lender, fleet, loop, monkeypatch):
    lender.lend({1: 500}, None)
    (lease,) = lender._leases
    stopped = submission()
    assert lease.take(stopped)  # And here the thread is stopped.
    assert used(lender) == [(stopped, 1)]
    (look,) = loop.timers
    look()
    assert fleet.given_up == [], "too early"
    monkeypatch.setattr("warmpool.lending.time.monotonic", lambda: 1e9 + SEND_PATIENCE)
    loop.timers[-1]()
    assert fleet.given_up == [(1, 7)]


def test_an_answered_task_is_not_kept_by_the_look_after_its_taker(lender, fleet, loop, monkeypatch):
    lender.lend({1: 500}, None)
    (lease,) = lender._leases
    taker = submission()
    assert lease.take(taker)
    assert used(lender) == [(taker, 1)]
    del taker
    monkeypatch.setattr("warmpool.lending.time.monotonic", lambda: 1e9 + SEND_PATIENCE)
    loop.timers[-1]()
    assert fleet.given_up == []
