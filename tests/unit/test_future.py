"""The future of a task, with no pool behind it."""

from __future__ import annotations

import pickle
import signal
import threading
from concurrent.futures import CancelledError, Future, as_completed, wait

import pytest

from warmpool import PayloadError, PoolClosed, RemoteTraceback, payload
from warmpool.future import TaskFuture
from warmpool.parker import Parkers


class Control:
    is_foreign = False

    def __init__(self):
        self.parkers = Parkers()
        self.cancelled_tasks: list[int] = []
        self.killed: list[int] = []

    def cancelled(self, task):
        self.cancelled_tasks.append(task)

    def kill(self, task, grace):
        self.killed.append(task)


@pytest.fixture
def control():
    control = Control()
    yield control
    control.parkers.close()


@pytest.fixture
def future(control):
    return TaskFuture(control, 7, 100.0)


def encoded(value):
    return bytes(payload.dumps(value))


def settle(method, *args):
    """Settle as the supervisor does, and give the callbacks that are to be called."""
    future = method.__self__
    method(*args)
    for parker in future.parked():
        parker.unpark()
    if not future.has_audience:
        return []
    if future.has_waiters:
        future.tell_waiters()
    callbacks = []
    while (callback := future.next_callback()) is not None:
        callbacks.append(callback)
    return callbacks


class FailsToUnpickle:
    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return _raise, (self.error,)


def _raise(error):
    raise error


class CountsUnpickling:
    count = 0

    def __setstate__(self, state):
        type(self).count += 1

    def __getstate__(self):
        return {"x": 1}


def test_it_is_a_future_and_settles_with_a_decoded_result(future):
    assert isinstance(future, Future)
    assert future.handed_over(4321, 101.0)
    assert future.running()
    settle(future.settle_returned, encoded([1, 2]), 102.0)
    assert future.result(0) == [1, 2]
    assert future.exception(0) is None
    assert not future.running()
    info = future.info
    assert (info.pid, info.queued, info.started, info.ended, info.attempts) == (
        4321,
        100.0,
        101.0,
        102.0,
        1,
    )


def test_a_result_is_decoded_once_and_by_who_asks(future):
    CountsUnpickling.count = 0
    settle(future.settle_returned, encoded(CountsUnpickling()), 1.0)
    assert CountsUnpickling.count == 0
    assert future.result() is future.result()
    assert CountsUnpickling.count == 1


def test_two_threads_that_ask_get_the_same_object(future):
    CountsUnpickling.count = 0
    got = []
    threads = [threading.Thread(target=lambda: got.append(future.result(20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    settle(future.settle_returned, encoded(CountsUnpickling()), 1.0)
    for thread in threads:
        thread.join()
    assert len({id(value) for value in got}) == 1
    assert CountsUnpickling.count == 1


def test_what_the_task_raised_comes_back_as_itself_with_its_traceback(future):
    try:
        raise KeyError("gone")
    except KeyError as error:
        settle(future.settle_raised, payload.dump_error(error, payload.dumps), 1.0)
    with pytest.raises(KeyError, match="gone") as caught:
        future.result()
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "KeyError: 'gone'" in caught.value.__cause__.tb
    assert future.exception() is caught.value


def test_an_exception_that_cannot_be_unpickled_is_described(future):
    class Local(Exception):
        pass

    settle(future.settle_raised, payload.dump_error(Local("what"), payload.dumps), 1.0)
    with pytest.raises(PayloadError, match=r"Local: what"):
        future.result()


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3)])
def test_a_result_that_cannot_be_unpickled_is_a_payload_error(future, error):
    settle(future.settle_returned, encoded(FailsToUnpickle(error)), 1.0)
    with pytest.raises(PayloadError, match="could not be unpickled here"):
        future.result()
    assert future.exception().__cause__.args == error.args


def test_a_ctrl_c_while_decoding_is_not_the_result(future):
    settle(future.settle_returned, encoded(FailsToUnpickle(KeyboardInterrupt())), 1.0)
    with pytest.raises(KeyboardInterrupt):
        future.result()
    with pytest.raises(KeyboardInterrupt):
        future.result()


def test_cancel_wins_over_a_later_dispatch(future, control):
    assert future.cancel()
    assert future.cancel()
    assert not future.handed_over(1, 1.0)
    assert set(control.cancelled_tasks) == {7}
    with pytest.raises(CancelledError):
        future.result()
    assert set(as_completed([future], timeout=0)) == {future}


def test_a_dispatch_wins_over_a_later_cancel(future, control):
    assert future.handed_over(1, 1.0)
    assert not future.cancel()
    assert control.cancelled_tasks == []


def test_of_many_racing_cancels_and_a_dispatch_exactly_one_wins(control):
    for n in range(200):
        future = TaskFuture(control, n, 0.0)
        start = threading.Barrier(3)
        won = []

        def cancel(future=future, start=start, won=won):
            start.wait()
            won.append(future.cancel())

        threads = [threading.Thread(target=cancel) for _ in range(2)]
        for thread in threads:
            thread.start()
        start.wait()
        dispatched = future.handed_over(1, 0.0)
        for thread in threads:
            thread.join()
        assert dispatched != future.cancelled()
        assert dispatched or any(won)
    assert len(control.cancelled_tasks) == len(set(control.cancelled_tasks))


def test_settling_what_is_cancelled_has_no_effect(future):
    future.cancel()
    assert settle(future.settle_returned, encoded(1), 1.0) == []
    assert future.cancelled()


def test_kill_cancels_what_waits_and_asks_for_what_runs(future, control):
    running = TaskFuture(control, 8, 0.0)
    running.handed_over(1, 0.0)
    assert running.kill()
    assert control.killed == [8]
    assert future.kill()
    assert future.cancelled()
    settle(running.settle_returned, encoded(1), 1.0)
    assert not running.kill()


def test_callbacks_are_handed_to_who_settles_and_called_once(future):
    called = []
    future.add_done_callback(called.append)
    taken = settle(future.settle_returned, encoded(1), 1.0)
    assert called == []
    assert taken == [called.append]
    future.add_done_callback(called.append)
    assert called == [future]


def test_a_canceller_calls_the_callbacks_and_their_errors_are_logged(future, caplog):
    called = []
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(called.append)
    future.cancel()
    assert called == [future]
    assert "exception calling callback" in caplog.text


def test_no_callback_is_lost_or_doubled_in_a_race(control):
    for n in range(200):
        future = TaskFuture(control, n, 0.0)
        start = threading.Barrier(2)
        called = []

        def settle_and_call(future=future, start=start):
            start.wait()
            for callback in settle(future.settle_returned, encoded(1), 1.0):
                callback(future)

        thread = threading.Thread(target=settle_and_call)
        thread.start()
        start.wait()
        future.add_done_callback(called.append)
        thread.join()
        assert called == [future]


def test_a_callback_is_told_by_identity(future):
    class EqualsEverything:
        def __eq__(self, other):
            return True

        def __hash__(self):
            return 1

        def __call__(self, _):
            pass

    first, second = EqualsEverything(), EqualsEverything()
    future.add_done_callback(first)
    future.add_done_callback(second)
    taken = settle(future.settle_returned, encoded(1), 1.0)
    assert [id(c) for c in taken] == [id(first), id(second)]


def test_dropping_cancels_what_waits_and_fails_what_ran_once(future, control):
    settle(future.drop, 1.0)
    assert future.cancelled()
    assert not wait([future], timeout=0).not_done
    again = TaskFuture(control, 8, 0.0)
    again.handed_over(1, 0.0)
    settle(again.drop, 1.0)
    with pytest.raises(PoolClosed):
        again.result()


def test_in_a_fork_nobody_waits_for_ever(future, control):
    control.is_foreign = True
    with pytest.raises(PoolClosed, match="fork"):
        future.result()


def test_a_timeout_of_the_wait_is_no_verdict(future):
    with pytest.raises(TimeoutError):
        future.result(0)
    settle(future.settle_returned, encoded(5), 1.0)
    assert future.result() == 5


def test_a_timeout_error_that_the_task_raised_is_its_own(future):
    settle(future.settle_raised, payload.dump_error(TimeoutError("inner"), payload.dumps), 1.0)
    with pytest.raises(TimeoutError, match="inner"):
        future.result()


def test_a_task_may_return_an_exception(future):
    settle(future.settle_returned, encoded(ValueError("returned")), 1.0)
    assert isinstance(future.result(), ValueError)


def test_futures_are_not_pickled_by_accident(future):
    with pytest.raises(TypeError):
        pickle.dumps(future)


def test_an_interrupted_cancel_is_completed_by_the_next(future):
    called = []

    def interrupts(_):
        raise KeyboardInterrupt

    future.add_done_callback(interrupts)
    future.add_done_callback(called.append)
    with pytest.raises(KeyboardInterrupt):
        future.cancel()
    assert called == []
    assert future.cancel()
    assert called == [future]
    assert future.cancel()
    assert called == [future]


class AsksItsOwnFuture:
    """Unpickles by asking for itself, once: as a signal handler might that runs meanwhile."""

    asked = None
    verdicts: list = []  # noqa: RUF012

    def __setstate__(self, state):
        future, AsksItsOwnFuture.asked = AsksItsOwnFuture.asked, None
        if future is not None:
            AsksItsOwnFuture.verdicts.append(future.result())

    def __getstate__(self):
        return {"x": 1}


def test_who_asks_while_it_is_decoded_gets_the_same_answer(future):
    future.handed_over(1, 0.0)
    settle(future.settle_returned, encoded(AsksItsOwnFuture()), 1.0)
    AsksItsOwnFuture.asked = future
    result = future.result()
    assert isinstance(result, AsksItsOwnFuture)
    assert AsksItsOwnFuture.verdicts == [result]
    assert future.result() is result


def test_a_wait_that_times_out_or_is_interrupted_leaves_no_trace(future, control):
    with pytest.raises(TimeoutError):
        future.result(0.001)
    assert future.__dict__["_parked"] == []

    def handler(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(KeyboardInterrupt):
            future.result()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert future.__dict__["_parked"] == []
    future.handed_over(1, 0.0)
    assert future.parked() == []
    settle(future.settle_returned, encoded(5), 1.0)
    assert future.result() == 5


def test_a_failure_meets_a_cancel_in_the_same_instant(future, control):
    # The supervisor gives up a queued task; its owner has claimed it, and was stopped there.
    assert future._claim()
    settle(future.settle_failed, PoolClosed("closed"), 1.0)
    assert future.cancelled()
    with pytest.raises(CancelledError):
        future.result()


def test_a_settled_future_stays_as_it_is(future):
    future.handed_over(1, 0.0)
    settle(future.settle_returned, encoded(5), 1.0)
    settle(future.settle_failed, PoolClosed("closed"), 2.0)
    assert future.result() == 5
    assert future.info.ended == 1.0


def test_a_state_that_others_look_at_twice_does_not_change_in_between(future):
    # wait() looks which futures are done, then counts those that are not, under their locks. Were
    # the last one settled between the two, it would wait for what it counted as none.
    future.handed_over(1, 0.0)
    with future._condition:
        assert future._state == "PENDING"
        settle_only = threading.Thread(target=future.settle_returned, args=(encoded(1), 1.0))
        settle_only.start()
        settle_only.join()
        assert future.done()
        assert future.result(0) == 1
        assert future._state == "PENDING"
    assert future.has_waiters
    future.tell_waiters()
    assert future._state == "FINISHED"
    assert not wait([future], timeout=0).not_done


def test_what_is_settled_before_anybody_looks_needs_no_lock(future):
    future.handed_over(1, 0.0)
    settle(future.settle_returned, encoded(1), 1.0)
    assert not future.has_waiters
    assert future._state == "FINISHED"
    assert not wait([future], timeout=0).not_done
    assert list(as_completed([future], timeout=0)) == [future]


def test_wait_and_settle_race_with_one_outcome(control):
    for n in range(300):
        futures = [TaskFuture(control, n, 0.0) for _ in range(3)]
        start = threading.Barrier(2)

        def settle_all(futures=futures, start=start):
            start.wait()
            for future in futures:
                future.handed_over(1, 0.0)
                settle(future.settle_returned, encoded(1), 1.0)

        thread = threading.Thread(target=settle_all)
        thread.start()
        start.wait()
        assert len(wait(futures, timeout=20).done) == 3
        thread.join()


def test_who_asks_for_a_snapshot_gets_what_is_decoded(control):
    # As asyncio.wrap_future() does from Python 3.14 on.
    futures = [TaskFuture(control, n, 0.0) for n in range(4)]
    waiting, returned, raised, cancelled = futures
    for future in (returned, raised):
        future.handed_over(1, 0.0)
    settle(returned.settle_returned, encoded([5]), 1.0)
    settle(raised.settle_raised, payload.dump_error(KeyError("x"), payload.dumps), 1.0)
    cancelled.cancel()
    assert waiting._get_snapshot() == (False, False, None, None)
    assert returned._get_snapshot() == (True, False, [5], None)
    assert isinstance(raised._get_snapshot()[3], KeyError)
    assert cancelled._get_snapshot() == (True, True, None, None)


class HangsOnce:
    begun = threading.Event()
    go_on = threading.Event()

    def __setstate__(self, state):
        if not HangsOnce.begun.is_set():
            HangsOnce.begun.set()
            assert HangsOnce.go_on.wait(20)

    def __getstate__(self):
        return {"x": 1}


def test_who_hangs_in_decoding_holds_up_nobody(future):
    """And so does who was interrupted in it: there is no lock that he could have left behind."""
    future.handed_over(1, 0.0)
    settle(future.settle_returned, encoded(HangsOnce()), 1.0)
    seen = []
    other = threading.Thread(target=lambda: seen.append(future.result()))
    other.start()
    assert HangsOnce.begun.wait(20)
    result = future.result(20)
    assert isinstance(result, HangsOnce)
    HangsOnce.go_on.set()
    other.join(20)
    assert seen == [result], "the first verdict counts for all"
    assert future.result() is result
