"""Turns, and the leases that they make logs of: who comes first at each point, one after the other.

What happens "in the middle of a step" is done by the function that the step calls.
"""

from __future__ import annotations

import ctypes
import signal
import threading

import pytest

from warmpool import wire
from warmpool.channel import make_ends
from warmpool.events import Outcome, TaskSpec
from warmpool.future import TaskFuture
from warmpool.lease import Lease, Submission
from warmpool.overtaking import READ_LOOKS, Overtaken
from warmpool.parker import Parkers
from warmpool.turns import LONGEST_ANSWER, Steps, Turn

TASK = 7
BODY = b"the body"


def frame(kind=wire.RETURNED, task=TASK, body=BODY):
    return wire.header(kind, task, len(body)) + body


class Control:
    is_foreign = False

    def __init__(self):
        self.parkers = Parkers()

    def cancelled(self, task):
        raise AssertionError(task)

    def kill(self, task, grace):
        raise AssertionError(task)


class Account:
    """A lease as its turns see it."""

    def __init__(self):
        self.passed = []
        self.given_up = 0

    def pass_on(self, passed):
        self.passed.append(passed)

    def give_up(self):
        self.given_up += 1


@pytest.fixture
def ends():
    ours, theirs = make_ends()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def worker(ends):
    """What the worker writes."""
    return lambda data: ends[1]._send(data)


@pytest.fixture
def steps(ends):
    return Steps(ends[0].fileno(), ends[0].recv)


@pytest.fixture
def control():
    control = Control()
    yield control
    control.parkers.close()


@pytest.fixture
def account():
    return Account()


@pytest.fixture
def make_turn(steps, account):
    return lambda task=TASK, steps=steps: Turn(steps, TaskSpec(task), 1.0, account)


@pytest.fixture
def future(control):
    future = TaskFuture(control, TASK, 0.0)
    future.handed_over(1, 0.0)
    return future


def unread(ends):
    try:
        return ends[0].recv(1 << 16)
    except BlockingIOError:
        return b""


# ---------------------------------------------------------------------------- one turn


def test_whoever_makes_both_steps_gives_the_answer(make_turn, worker):
    turn = make_turn()
    worker(frame())
    assert turn.step()
    assert turn.answer() == (wire.RETURNED, BODY)
    assert turn.step()
    assert not turn.step()
    turn.revoke()
    assert turn.is_won
    assert not turn.is_under_way


def test_after_a_revocation_nothing_is_read(make_turn, worker, ends):
    turn = make_turn()
    worker(frame())
    turn.revoke()
    assert not turn.step()
    assert not turn.is_won
    assert not turn.is_under_way
    assert turn.taken_in is None
    assert unread(ends) == frame()


def test_what_was_read_before_a_revocation_is_the_supervisors(make_turn, worker, ends):
    turn = make_turn()
    worker(frame())
    assert turn.step()
    turn.revoke()
    assert not turn.step()
    assert not turn.is_won
    assert turn.taken_in == frame()
    assert unread(ends) == b""


def test_a_revocation_in_the_middle_of_the_reading_waits_for_its_end(make_turn, ends):
    seen = []

    def receive(size, flags):
        turn.revoke()
        seen.append((turn.is_under_way, turn.is_won, turn.taken_in))
        return frame()

    turn = make_turn(steps=Steps(ends[0].fileno(), receive))
    assert turn.step()
    assert seen == [(True, False, None)]
    assert not turn.is_under_way
    assert turn.taken_in == frame()
    assert not turn.step(), "it may be read, but not be given"


def test_a_revocation_in_the_middle_of_the_claim_comes_too_late(make_turn, worker):
    turn = make_turn()
    worker(frame())
    assert turn.step()
    turn._permits[1] = (turn.revoke,)
    assert turn.step()
    assert turn.is_won


def test_a_reading_that_fails_is_over(make_turn, ends):
    turn = make_turn()
    assert turn.step()  # Nothing is there.
    assert turn.answer() is None
    turn.revoke()
    assert not turn.is_under_way
    assert turn.taken_in is None


def test_an_interrupt_in_the_middle_of_the_reading_comes_after_the_note(make_turn):
    def handler(*_):
        raise KeyboardInterrupt

    # A function in C, as recv() is, in the middle of which a signal comes. (The one of the module
    # signal would call the handler itself.)
    raise_signal = ctypes.CDLL(None)["raise"]
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        turn = make_turn()
        turn._permits[-1] = (raise_signal, signal.SIGUSR1)
        with pytest.raises(KeyboardInterrupt):
            turn.step()
    finally:
        signal.signal(signal.SIGUSR1, before)
    turn.revoke()
    assert not turn.is_under_way


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xfe",
        frame()[:-1],
        frame() + b"\0",
        frame() + frame(),
        frame(task=TASK + 1),
        frame(kind=wire.LOG),
        frame(kind=wire.READY),
        b"what is no message at all",
        frame(body=b"x" * LONGEST_ANSWER),
    ],
    ids=repr,
)
def test_what_is_not_the_whole_answer_is_the_supervisors(make_turn, ends, data):
    turn = make_turn(steps=Steps(ends[0].fileno(), lambda size, flags: data[:size]))
    assert turn.step()
    assert turn.answer() is None
    turn.revoke()
    assert turn.taken_in == data[:LONGEST_ANSWER]


def test_reader_and_supervisor_agree_who_gives_the_answer(make_turn, worker, ends):
    for _ in range(300):
        turn = make_turn()
        worker(frame())
        start, won = threading.Barrier(2), []

        def read(turn=turn, start=start, won=won):
            start.wait()
            won.append(turn.step() and turn.answer() is not None and turn.step())

        thread = threading.Thread(target=read)
        thread.start()
        start.wait()
        turn.revoke()
        seen = turn.is_won
        thread.join()
        assert won == [seen]
        assert not turn.is_under_way
        assert (turn.taken_in or b"") + unread(ends) == frame(), "nothing is lost, nothing doubled"


# ---------------------------------------------------------------------------- waiting


def test_who_waits_reads_and_settles(make_turn, future, control, account, worker):
    turn = make_turn()
    future.offer_turn(turn)
    threading.Timer(0.01, worker, [frame(body=b"\x80\x05K\x05.")]).start()
    assert future.result(20) == 5
    ((spec, taken_at, _, outcome),) = account.passed
    assert (spec, taken_at, outcome) == (TaskSpec(TASK), 1.0, Outcome.RETURNED)
    assert not account.given_up
    assert control.parkers.are_expected
    assert control.parkers.take() is not None


def test_who_was_not_answered_in_time_gives_up(make_turn, future, account, control):
    future.offer_turn(make_turn())
    with pytest.raises(TimeoutError):
        future.result(0.001)
    assert account.given_up == 1
    assert future.__dict__["_parked"] == []


def test_a_revoked_turn_is_left_for_a_sleep(make_turn, future, account, worker):
    turn = make_turn()
    turn.revoke()
    future.offer_turn(turn)
    worker(frame())  # It is readable, but not for us.

    def supervise():
        future.settle_returned(b"\x80\x05K\x06.", 2.0)
        for parker in future.parked():
            parker.unpark()

    threading.Timer(0.01, supervise).start()
    assert future.result(20) == 6
    assert account.passed == []


def test_who_is_overtaken_as_it_waits_is_woken(make_turn, future, account):
    turn = make_turn()
    future.offer_turn(turn)

    def supervise():
        turn.revoke()
        future.settle_returned(b"\x80\x05K\x06.", 2.0)
        for parker in future.parked():
            parker.unpark()

    threading.Timer(0.01, supervise).start()
    assert future.result(20) == 6
    assert not account.given_up


def test_one_reads_and_wakes_the_other(make_turn, future, account, worker):
    future.offer_turn(make_turn())
    results = []
    waiters = [threading.Thread(target=lambda: results.append(future.result(20))) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    while len(future.__dict__.get("_parked", ())) < 3:
        threading.Event().wait(0.001)
    worker(frame(body=b"\x80\x05K\x05."))
    for waiter in waiters:
        waiter.join(20)
    assert results == [5, 5, 5]
    assert len(account.passed) == 1


def test_an_audience_is_told_by_the_supervisor(make_turn, future, account, worker):
    future.__dict__["_callbacks"] = called = []
    future.offer_turn(make_turn())
    worker(frame(body=b"\x80\x05K\x05."))
    assert future.result(20) == 5
    assert account.given_up == 1
    assert account.passed == []
    assert called == []


@pytest.mark.parametrize(
    "observe",
    [
        lambda future: future.done(),
        lambda future: future.running(),
        lambda future: future.info,
        lambda future: future._condition,
        lambda future: future._state,
        lambda future: future.add_done_callback(print),
        repr,
    ],
)
def test_who_asks_otherwise_than_by_waiting_wakes_the_supervisor(
    make_turn, future, account, control, observe
):
    control.parkers.are_expected = True
    future.offer_turn(make_turn())
    observe(future)
    assert account.given_up == 1
    assert not control.parkers.are_expected
    observe(future)
    assert account.given_up == 1


@pytest.mark.parametrize("point", ["before", "read", "claimed"])
def test_an_interrupted_reader_leaves_it_to_the_supervisor(
    make_turn, future, account, control, worker, monkeypatch, point
):
    turn = make_turn()
    real, made = Turn.step, []

    def step(turn):
        made.append(None)
        if point == "before":
            raise KeyboardInterrupt
        done = real(turn)
        if (point, len(made)) in (("read", 1), ("claimed", 2)):
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(Turn, "step", step)
    future.offer_turn(turn)
    worker(frame())
    with pytest.raises(KeyboardInterrupt):
        future.result(20)
    assert account.given_up == 1
    assert not future.is_settled
    turn.revoke()
    assert turn.is_won == (point == "claimed")
    assert turn.taken_in == (None if point == "before" else frame())
    assert future.__dict__["_parked"] == []


def test_who_waits_without_a_descriptor_leaves_it_to_the_supervisor(
    make_turn, future, account, control
):
    control.parkers._permits.clear()
    turn = make_turn()
    future.offer_turn(turn)
    future.wait(control.parkers, 0.001)
    assert future.take_turn() is None
    assert account.given_up == 1, "else nobody hears of the worker until the next look"


def test_a_parker_that_an_interrupt_has_left_to_nobody_is_made_up_for(control):
    parkers = control.parkers
    for _ in range(20):
        assert parkers.take().has_descriptor


def test_one_who_is_stopped_in_the_last_step_of_settling_breaks_nothing(future):
    """As if a signal handler had come between that line and the next."""
    future._outcome = "FINISHED"
    future.settle_returned(b"\x80\x05K\x05.", 1.0)
    assert not future.has_waiters
    assert not future.has_audience


def test_a_step_that_has_no_memory_is_over(make_turn):
    def receive(size, flags):
        raise MemoryError

    turn = make_turn(steps=Steps(0, receive))
    with pytest.raises(MemoryError):
        turn.step()
    turn.revoke()
    assert turn.begun == 1
    assert not turn.is_under_way
    assert turn.taken_in is None


class Fleet:
    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *args: self.calls.append((name, *args))


class Loop:
    def __init__(self):
        self.timers = []

    def call_at(self, when, call):
        self.timers.append(call)


@pytest.fixture
def stuck(make_turn):
    """A turn in whose first step its reader is met, for as long as it lives."""
    turn = make_turn()
    turn.revoke()
    turn.begun = 1
    assert turn.is_under_way
    return turn


def test_a_reader_that_is_stuck_costs_one_timer_and_then_its_worker(stuck, monkeypatch):
    monkeypatch.setattr("warmpool.overtaking.READ_PATIENCE", 0.0)
    fleet, loop, reported = Fleet(), Loop(), []
    overtaken = Overtaken(fleet, loop, reported.append)
    overtaken.add(3, stuck)
    for _ in range(READ_LOOKS):
        assert not overtaken.go_on()
        assert not reported
    assert len(loop.timers) == 1
    overtaken.go_on()
    assert reported == [3]
    # What is in the channel then begins in the middle of an answer, and is not looked at.
    assert fleet.calls[-1] == ("lose", 3)
    assert ("take_over", 3, None) not in fleet.calls


def test_an_answer_that_is_given_twice_is_the_first(future):
    real = future._become
    future._become = lambda outcome: None  # Interrupted, or not yet there.
    future.settle_returned(b"\x80\x05K\x05.", 1.0)
    del future._become
    assert real == future._become
    future.settle_failed(RuntimeError("the pool ended"), 2.0)
    assert future.result(20) == 5


# ---------------------------------------------------------------------------- leases as logs


class Loan:
    """A lease, lent; its lender's side."""

    def __init__(self, control, end, steps, most):
        self.offered = []
        self.woken = 0
        self.lease = Lease(1, 4711, end, steps, most)
        self.lease.lend(self.offered.append, self._wake)
        self._control = control

    def _wake(self):
        self.woken += 1

    def submission(self, task):
        return Submission(TaskSpec(task), TaskFuture(self._control, task, 0.0), b"payload")

    def take(self, task):
        """As a submitter does."""
        submission = self.submission(task)
        submission.future.handed_over(4711, 0.0)
        submission.turn = self.lease.turn(submission.spec, 1.0)
        if not self.lease.take(submission):
            return None
        if submission.turn is not None:
            submission.future.offer_turn(submission.turn)
        return submission


@pytest.fixture
def make_loan(control, ends, steps):
    return lambda most=9: Loan(control, ends[0], steps, most)


@pytest.fixture
def loan(make_loan):
    return make_loan()


def tasks_of(passed):
    return [task.spec.id for task in passed]


def answer(worker, submission):
    worker(frame(task=submission.spec.id, body=b"\x80\x05K\x05."))
    assert submission.future.result(20) == 5


def test_tasks_pass_one_after_the_other(loan, worker):
    for task in (1, 2, 3):
        answer(worker, loan.take(task))
        assert loan.offered.pop() is loan.lease
    returned = loan.lease.revoke()
    assert tasks_of(returned.passed) == [1, 2, 3]
    assert returned.taken is None
    assert returned.unsure == []
    assert loan.take(4) is None
    assert loan.woken == 0


def test_the_last_may_be_on_its_way(loan, worker):
    answer(worker, loan.take(1))
    second = loan.take(2)
    returned = loan.lease.revoke()
    assert tasks_of(returned.passed) == [1]
    assert returned.taken is second
    assert returned.turn.taken_in is None
    assert second.turn is None
    assert second.future.take_turn() is None, "nobody keeps the lease's socket open"


def test_after_the_most_there_are_no_more_turns(make_loan, worker):
    loan = make_loan(1)
    answer(worker, loan.take(1))
    second = loan.take(2)
    assert second.turn is None
    assert loan.lease.is_muted, "so whoever takes it has to wake the supervisor"
    assert loan.lease.revoke().taken is second


def test_a_lease_without_steps_has_no_turns(control, ends):
    loan = Loan(control, ends[0], None, 9)
    assert loan.take(1).turn is None
    assert not loan.lease.is_muted


def claim(submission):
    """Come as far as the claim, as a reader."""
    turn = submission.future.take_turn()
    assert turn.step()
    assert turn.answer() is not None
    assert turn.step()
    return turn


def test_the_supervisor_settles_for_a_reader_that_was_interrupted_after_the_claim(loan, worker):
    first = loan.take(1)
    worker(frame(task=1))
    turn = claim(first)
    returned = loan.lease.revoke()
    assert tasks_of(returned.passed) == [1]
    assert returned.taken is None
    assert returned.unsure == [(first.future, wire.RETURNED, BODY)]
    # The reader comes late: nobody can take what it lends on.
    loan.lease.pass_on(turn.passed(wire.RETURNED, 2.0))
    assert loan.take(2) is None


def test_a_worker_may_be_lent_on_while_its_lease_is_revoked(loan, worker, monkeypatch):
    first, second = loan.take(1), []
    worker(frame(task=1))
    turn = claim(first)
    real = Turn.revoke

    def revoke(turn_):
        # Between the supervisor's look at the first task and that at the next.
        monkeypatch.setattr(Turn, "revoke", real)
        real(turn_)
        loan.lease.pass_on(turn.passed(wire.RETURNED, 2.0))
        second.append(loan.take(2))

    monkeypatch.setattr(Turn, "revoke", revoke)
    returned = loan.lease.revoke()
    assert tasks_of(returned.passed) == [1]
    assert returned.taken is second[0] is not None
    assert loan.take(3) is None
