"""Answers that whoever waits for them reads past the supervisor, and what may befall that."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import threading
import time
from concurrent.futures import as_completed, wait

import pytest

from tests.helpers import faults, processes, tasks
from tests.helpers.gate import hold
from tests.helpers.waiting import BOUND, until
from warmpool import PoolClosed, ProtocolError, SoftTimeout, TaskTimeout, WorkerDied
from warmpool.core import Core
from warmpool.fleet import Fleet
from warmpool.turns import LONGEST_ANSWER, Turn


def lender_of(pool):
    return pool._desk._supervisor.lender


def wait_turns(pool):
    """Wait until tasks may pass the supervisor, and it sleeps."""
    pool.wait_warm(BOUND)
    lender = lender_of(pool)

    def gives_turns():
        pool.submit(abs, -1).result(BOUND)
        return lender._gave_turns and lender._leases

    until(gives_turns, "whoever waits for an answer may read it")


def submit_with_turn(pool, function, *args):
    """A task whose answer the supervisor does not hear of by itself."""
    for _ in range(100):
        wait_turns(pool)
        future = pool.submit(function, *args)
        # It may wake up at any moment, for its own reasons.
        if "_turn" in future.__dict__:
            return future
        if function in (signal.pause, hold):
            future.kill()
        with contextlib.suppress(Exception):
            future.result(BOUND)
    raise AssertionError("no task got a turn")


@contextlib.contextmanager
def in_thread(function, *args):
    """Call it on a thread, and give the list that its result or exception is put into."""
    got = []

    def run():
        try:
            got.append(function(*args))
        except BaseException as error:
            got.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield got
    thread.join(BOUND)
    assert not thread.is_alive(), "it waits for ever"


def reading(future):
    """Whether somebody has got the future's turn, and sleeps."""
    return "_turn" not in future.__dict__ and bool(future.__dict__.get("_parked"))


def test_tasks_pass_the_supervisor_and_are_counted(make_pool, monkeypatch):
    events = []
    real = Core.handle

    def handle(core, event, now):
        events.append(type(event).__name__)
        return real(core, event, now)

    pool = make_pool(1)
    wait_turns(pool)
    before = pool.stats()
    monkeypatch.setattr(Core, "handle", handle)
    for number in range(200):
        assert pool.submit(abs, -number).result(BOUND) == number
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 1, 0).result(BOUND)
    after = pool.stats()
    assert events.count("TaskDone") < 100
    assert "TasksPassed" in events
    assert after.tasks_submitted - before.tasks_submitted == 201
    assert after.tasks_settled["returned"] - before.tasks_settled["returned"] == 200
    assert after.tasks_settled["raised"] == 1
    assert after.details[0].tasks_done == after.tasks_submitted
    assert after.runs.count == after.waits.count == after.tasks_submitted


def test_the_future_tells_of_its_run(make_pool):
    pool = make_pool(1)
    future = submit_with_turn(pool, os.getpid)
    pid = future.result(BOUND)
    info = future.info
    assert (info.pid, info.attempts) == (pid, 1)
    assert info.queued <= info.started <= info.ended


@pytest.mark.parametrize("ends", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_while_somebody_reads_it(make_pool, gate, start_method, ends):
    pool = make_pool(1)
    future = submit_with_turn(pool, hold, gate)
    with in_thread(future.exception, BOUND) as got:
        pid = gate.arrived()
        os.kill(pid, ends)
    assert isinstance(got[0], WorkerDied)
    assert got[0].started
    assert pool.submit(abs, -1).result(BOUND) == 1


def test_a_worker_that_dies_before_anybody_reads_it(make_pool, gate):
    pool = make_pool(1)
    future = submit_with_turn(pool, hold, gate)
    os.kill(gate.arrived(), signal.SIGKILL)
    assert isinstance(future.exception(BOUND), WorkerDied)


def test_an_answer_counts_whose_worker_is_dead_by_then(make_pool):
    pool = make_pool(1)
    future = submit_with_turn(pool, os.getpid)
    (held,) = lender_of(pool)._fleet._held.values()
    descriptor = held.channel.descriptor
    # Or the supervisor has read it, at one of its looks.
    until(lambda: select.select([descriptor], [], [], 0)[0] or future.is_settled, "it has come")
    pid = future._pid
    os.kill(pid, signal.SIGKILL)
    assert future.result(BOUND) == pid


def test_a_stopped_worker_goes_on_when_it_goes_on(make_pool, gate):
    pool = make_pool(1)
    future = submit_with_turn(pool, hold, gate, 5)
    with in_thread(future.result, BOUND) as got:
        pid = gate.arrived()
        os.kill(pid, signal.SIGSTOP)
        gate.open()
        os.kill(pid, signal.SIGCONT)
    assert got == [5]


@pytest.mark.parametrize("made", [0, 1, 2])
def test_a_reader_that_is_interrupted_loses_nothing(make_pool, monkeypatch, made):
    """Ctrl-C before the first step, after it, and after the last."""
    pool = make_pool(1)
    future = submit_with_turn(pool, abs, -5)
    real, steps = Turn.step, []

    def step(turn):
        if made == 0:
            monkeypatch.setattr(Turn, "step", real)
            raise KeyboardInterrupt
        done = real(turn)
        steps.append(done)
        if len(steps) == made:
            monkeypatch.setattr(Turn, "step", real)
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(Turn, "step", step)
    with contextlib.suppress(KeyboardInterrupt):  # The supervisor may just have been faster.
        future.result(BOUND)
    monkeypatch.setattr(Turn, "step", real)
    assert future.result(BOUND) == 5
    assert pool.submit(abs, -6).result(BOUND) == 6
    stats = until(lambda: (s := pool.stats()).running == 0 and s, "all is answered")
    assert sum(stats.tasks_settled.values()) == stats.tasks_submitted
    assert stats.workers_started == 1


@pytest.mark.parametrize("made", [1, 2])
def test_a_reader_that_is_stuck_holds_up_nobody(make_pool, monkeypatch, made):
    """In a signal handler, or a debugger, between two steps, or after the last."""
    pool = make_pool(1)
    future = submit_with_turn(pool, abs, -5)
    real, steps = Turn.step, []
    stuck, go_on = threading.Event(), threading.Event()

    def step(turn):
        done = real(turn)
        steps.append(done)
        if len(steps) == made:
            stuck.set()
            assert go_on.wait(BOUND)
        return done

    monkeypatch.setattr(Turn, "step", step)
    with in_thread(future.result, BOUND) as got:
        assert stuck.wait(BOUND)
        monkeypatch.setattr(Turn, "step", real)
        assert future.result(BOUND) == 5, "somebody else who waits for it"
        assert pool.submit(abs, -6).result(BOUND) == 6, "who has the same worker"
        go_on.set()
    assert got == [5]
    assert pool.submit(abs, -7).result(BOUND) == 7


def test_a_reader_that_is_stuck_in_the_middle_of_reading_costs_the_worker(make_pool, monkeypatch):
    monkeypatch.setattr("warmpool.overtaking.READ_PATIENCE", 0.2)
    pool = make_pool(1)
    future = submit_with_turn(pool, abs, -5)
    turn = future.__dict__["_turn"]
    receive, size, flags = turn._permits[-1]
    stuck, go_on = threading.Event(), threading.Event()

    def receive_slowly(size, flags):
        data = receive(size, flags)
        stuck.set()
        assert go_on.wait(BOUND)
        return data

    turn._permits[-1] = (receive_slowly, size, flags)
    with in_thread(future.exception, BOUND) as got:
        assert stuck.wait(BOUND)
        assert isinstance(future.exception(BOUND), WorkerDied)
        assert pool.submit(abs, -6).result(BOUND) == 6
        go_on.set()
    assert isinstance(got[0], WorkerDied)


def test_an_answer_counts_though_its_reader_was_met_in_the_middle_of_reading(make_pool):
    pool = make_pool(1)
    future = submit_with_turn(pool, os.getpid)
    turn = future.__dict__["_turn"]
    receive, size, flags = turn._permits[-1]
    stuck, go_on = threading.Event(), threading.Event()

    def receive_slowly(size, flags):
        data = receive(size, flags)
        stuck.set()
        assert go_on.wait(BOUND)
        return data

    turn._permits[-1] = (receive_slowly, size, flags)
    with in_thread(future.result, BOUND) as got:
        assert stuck.wait(BOUND)
        pool.stats()  # The supervisor has heard of it.
        os.kill(future._pid, signal.SIGKILL)
        pool.stats()
        assert not future.done(), "the dead worker's last words are not all there yet"
        go_on.set()
    assert got == [future.info.pid]


def test_the_end_of_a_channel_that_somebody_is_reading_is_reported_once(make_pool, monkeypatch):
    """epoll reports it whatever it is asked for, again and again: the supervisor would spin."""
    reports = []
    real = Fleet._on_data

    def on_data(fleet, worker, ready):
        reports.append(ready)
        real(fleet, worker, ready)

    monkeypatch.setattr(Fleet, "_on_data", on_data)
    pool = make_pool(1)
    future = submit_with_turn(pool, os.getpid)
    turn = future.__dict__["_turn"]
    receive, size, flags = turn._permits[-1]
    stuck, go_on = threading.Event(), threading.Event()

    def receive_slowly(size, flags):
        data = receive(size, flags)
        stuck.set()
        assert go_on.wait(BOUND)
        return data

    turn._permits[-1] = (receive_slowly, size, flags)
    with in_thread(future.result, BOUND) as got:
        assert stuck.wait(BOUND)
        before = len(reports)
        os.kill(future._pid, signal.SIGKILL)
        processes.wait_gone(future._pid)
        for _ in range(50):
            pool.stats()  # A turn of the loop, at least.
        assert len(reports) - before < 5
        go_on.set()
    assert got == [future.info.pid]


def test_a_signal_handler_may_wait_for_tasks_while_its_thread_reads(make_pool, gate):
    pool = make_pool(2)
    wait_turns(pool)
    inner = []

    def handler(*_):
        inner.append(pool.submit(abs, -2).result(BOUND))
        gate.open()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        future = submit_with_turn(pool, hold, gate, 1)
        gate.arrived()
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        assert future.result(BOUND) == 1
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert inner == [2]


def test_a_signal_handler_may_wait_for_the_very_future_that_its_thread_reads(make_pool, gate):
    pool = make_pool(1)
    future = submit_with_turn(pool, hold, gate, 1)
    inner = []

    def handler(*_):
        gate.open()
        inner.append(future.result(BOUND))

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        gate.arrived()
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        assert future.result(BOUND) == 1
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert inner == [1]


def test_a_timeout_of_the_reader_is_not_the_tasks(make_pool, gate):
    pool = make_pool(1)
    future = submit_with_turn(pool, hold, gate, 5)
    for timeout in (0, 0.001, 0.001):
        with pytest.raises(TimeoutError):
            future.result(timeout)
    gate.open()
    assert future.result(BOUND) == 5
    assert future.info.attempts == 1


def test_two_wait_for_one_future(make_pool, gate):
    pool = make_pool(1)
    future = submit_with_turn(pool, hold, gate, 5)
    with in_thread(future.result, BOUND) as one, in_thread(future.result, BOUND) as other:
        gate.arrived()
        gate.open()
    assert one == other == [5]


def test_a_fork_does_not_read(make_pool, gate):
    pool = make_pool(1)
    future = submit_with_turn(pool, hold, gate, 5)
    if (child := os.fork()) == 0:
        try:
            future.result(5)
        except PoolClosed:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    gate.open()
    assert future.result(BOUND) == 5


def test_a_close_answers_the_reader(make_pool, gate):
    pool = make_pool(1, grace=0.1)
    future = submit_with_turn(pool, hold, gate)
    with in_thread(future.exception, BOUND) as got:
        until(lambda: reading(future), "somebody reads")
        pool.close(BOUND)
    assert isinstance(got[0], PoolClosed)


def test_a_shutdown_waits_for_the_task_that_is_being_read(make_pool, gate):
    pool = make_pool(1)
    future = submit_with_turn(pool, hold, gate, 5)
    with in_thread(future.result, BOUND) as got:
        gate.arrived()
        pool.shutdown(wait=False)
        gate.open()
    assert got == [5]
    pool.shutdown()


@pytest.mark.parametrize(
    "fault",
    [
        faults.writes_garbage,
        faults.promises_too_much,
        faults.answers_a_task_it_does_not_have,
        faults.greets_twice,
    ],
)
def test_what_is_no_answer_costs_the_worker(following, fault):
    pool = following(1)
    future = submit_with_turn(pool, fault)
    assert isinstance(future.exception(BOUND), ProtocolError)
    assert pool.submit(abs, -1).result(BOUND) == 1


def test_an_answer_counts_though_garbage_follows_it_while_it_is_read(following):
    pool = following(1)
    future = submit_with_turn(pool, faults.answer_and_write_garbage, "done")
    assert future.result(BOUND) == "done"
    assert pool.submit(abs, -1).result(BOUND) == 1


@pytest.mark.parametrize("size", [LONGEST_ANSWER - 100, LONGEST_ANSWER, 1 << 18, 1 << 24])
def test_answers_of_every_size(make_pool, size):
    pool = make_pool(1)
    for _ in range(3):
        assert submit_with_turn(pool, tasks.large, size).result(BOUND) == tasks.large(size)


@pytest.mark.parametrize("limit", [0.05, 0.3])
def test_time_limits_hold_while_an_answer_is_waited_for(make_pool, limit):
    pool = make_pool(1)
    wait_turns(pool)
    with pytest.raises(TaskTimeout):
        pool.options(timeout=limit).submit(signal.pause).result(BOUND)
    wait_turns(pool)
    with pytest.raises(SoftTimeout):
        pool.options(soft_timeout=limit).submit(time.sleep, 60).result(BOUND)


def test_no_worker_does_more_tasks_than_it_may(make_pool):
    pool = make_pool(1, max_tasks_per_child=5)
    pids = [pool.submit(os.getpid).result(BOUND) for _ in range(23)]
    assert all(pids.count(pid) <= 5 for pid in pids)
    assert len(set(pids)) == 5


def test_whoever_does_not_wait_in_result_is_told_as_soon(make_pool, monkeypatch):
    # Not at the supervisor's next look, which would come after the bound.
    monkeypatch.setattr("warmpool.lending.LOOK", 10 * BOUND)
    pool = make_pool(1)
    called = threading.Event()
    submit_with_turn(pool, abs, -1).add_done_callback(lambda _: called.set())
    assert called.wait(BOUND)
    assert not wait([submit_with_turn(pool, abs, -1)], BOUND).not_done
    assert next(as_completed([submit_with_turn(pool, abs, -1)], BOUND)).result() == 1
    until(submit_with_turn(pool, abs, -1).done, "it is done")
    future = submit_with_turn(pool, abs, -1)
    until(lambda: future.info.ended, "it is done")
    future = submit_with_turn(pool, abs, -1)
    assert pool.submit(abs, -2).result(BOUND) == 2
    assert future.result(BOUND) == 1
    submit_with_turn(pool, abs, -1)
    pool.shutdown()


def test_nobody_has_to_wait_for_a_task(make_pool, tmp_path):
    pool = make_pool(1)
    wait_turns(pool)
    before = pool.stats().tasks_settled["returned"]
    submit_with_turn(pool, tasks.note, tmp_path / "notes")
    until(lambda: pool.stats().tasks_settled["returned"] > before, "it is counted")


def test_records_are_forwarded_before_the_answer(make_pool, caplog):
    pool = make_pool(1, forward_logs=logging.WARNING)
    with caplog.at_level(logging.WARNING):
        for number in range(30):
            assert pool.submit(_log, number).result(BOUND) == number
            until(lambda n=number: f"record {n}" in caplog.text, "the record has come")
    assert not lender_of(pool)._gave_turns


def _log(number):
    logging.getLogger("tests.reading").warning("record %d", number)
    return number


def test_observers_are_told_in_order(make_pool):
    seen = []
    pool = make_pool(1, on_event=lambda notice: seen.append(type(notice).__name__))
    for number in range(30):
        assert pool.submit(abs, -number).result(BOUND) == number
    until(lambda: seen.count("TaskSettled") == 30, "everything is told")
    told = [name for name in seen if name.startswith("Task")]
    assert told == ["TaskQueued", "TaskStarted", "TaskSettled"] * 30


def test_many_threads_on_few_workers(make_pool):
    pool = make_pool(2)
    wait_turns(pool)
    wrong = []

    def work(base):
        for number in range(base, base + 300):
            if pool.submit(abs, -number).result(BOUND) != number:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    stats = pool.stats()
    assert sum(stats.tasks_settled.values()) == stats.tasks_submitted


def test_an_idle_pool_sleeps_again(make_pool, monkeypatch):
    monkeypatch.setattr("warmpool.lending.LIVELY", 0.3)
    pool = make_pool(1)
    wait_turns(pool)
    lender = lender_of(pool)
    until(lambda: not lender._gave_turns, "it looks no more")
    assert lender._wakes_at > time.monotonic() + 0.2
    assert pool.submit(abs, -1).result(BOUND) == 1
