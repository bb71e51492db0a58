"""Small tasks that are laid out for busy workers, and what may befall these."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections import Counter
from concurrent.futures import CancelledError

import pytest

from tests.helpers import processes, tasks
from tests.helpers.gate import hold
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import PoolClosed, ProtocolError, WorkerDied, WorkerUnresponsive, tray
from warmpool.dispatching import Dispatcher
from warmpool.fleet import Fleet

pytestmark = pytest.mark.skipif(not tray.AVAILABLE, reason="there are no trays here")

MANY = 3000


class Watched:
    """How many tasks were laid out for a worker that had another one."""

    def __init__(self):
        self.laid = 0


@pytest.fixture
def watched(monkeypatch):
    watched = Watched()
    lay_out = Dispatcher._lay_out

    def counting(dispatcher, command):
        watched.laid += len(command.tasks)
        lay_out(dispatcher, command)

    monkeypatch.setattr(Dispatcher, "_lay_out", counting)
    return watched


def runs(path):
    """How often each number was noted."""
    return Counter(int(text) for _, text in tasks.notes(path))


def submit_notes(pool, path, numbers):
    return {number: pool.submit(tasks.note, path, str(number)) for number in numbers}


def test_many_small_tasks_run_once_each_and_in_order(make_pool, start_method, tmp_path, watched):
    pool = make_pool(1)
    futures = submit_notes(pool, tmp_path / "notes", range(MANY))
    (pid,) = {future.result(BOUND) for future in futures.values()}
    assert tasks.notes(tmp_path / "notes") == [(pid, str(number)) for number in range(MANY)]
    assert watched.laid > MANY // 2
    infos = [future.info for future in futures.values()]
    assert all(i.queued <= i.started <= i.ended and i.attempts == 1 for i in infos)
    stats = pool.stats()
    assert stats.waits.count == stats.runs.count == MANY
    assert (stats.queued, stats.running) == (0, 0)


def test_no_small_task_waits_behind_a_long_one(make_pool, start_method, gate, watched):
    pool = make_pool(2)
    before = [pool.submit(abs, -number) for number in range(MANY)]
    long = pool.submit(hold, gate)
    after = [pool.submit(abs, -number) for number in range(MANY)]
    gate.arrived()
    # One worker holds; the other does all the rest.
    assert [future.result(BOUND) for future in before + after] == [*range(MANY)] * 2
    assert not long.done()
    assert watched.laid > 0
    gate.open(1)
    assert long.result(BOUND) is None


def test_killed_workers_cost_what_they_had_begun_and_nothing_else(
    make_pool, start_method, tmp_path, watched
):
    pool, path = make_pool(2), tmp_path / "notes"
    pool.wait_warm(BOUND)
    futures = submit_notes(pool, path, range(2 * MANY))
    killed = 0
    chance = random.Random(1)
    while not futures[2 * MANY - 1].done() and killed < 8:
        reached = chance.randrange(50, 300)
        settled = sum(future.done() for future in futures.values())
        until(
            lambda n=settled + reached: sum(f.done() for f in futures.values()) >= min(n, 2 * MANY),
            "some more are done",
        )
        busy = [w.pid for w in pool.stats().details if w.state == "busy"]
        if busy:
            with contextlib.suppress(ProcessLookupError):  # It is dead by now.
                os.kill(busy[0], signal.SIGKILL)
            killed += 1
    lost = {n for n, future in futures.items() if future.exception(BOUND) is not None}
    assert all(isinstance(futures[n].exception(), WorkerDied) for n in lost)
    assert all(futures[n].exception().started for n in lost)
    assert len(lost) <= killed
    counts = runs(path)
    assert set(counts.values()) == {1}, "a task ran twice"
    assert counts.keys() >= futures.keys() - lost, "a task has a result and never ran"
    assert watched.laid > 0


def test_a_stopped_worker_costs_one_task(make_pool, start_method, tmp_path, watched):
    pool = make_pool(2, heartbeat_interval=0.05, heartbeat_timeout=1.0)
    path = tmp_path / "notes"
    pool.wait_warm(BOUND)
    futures = submit_notes(pool, path, range(2 * MANY))
    until(lambda: watched.laid > 100, "tasks are laid out")
    busy = next(w.pid for w in pool.stats().details if w.state in ("busy", "idle"))
    os.kill(busy, signal.SIGSTOP)
    errors = [f.exception(BOUND) for f in futures.values() if f.exception(BOUND) is not None]
    assert len(errors) <= 1
    assert all(isinstance(error, WorkerUnresponsive) for error in errors)
    assert set(runs(path).values()) == {1}
    processes.wait_gone(busy)


def test_what_is_laid_out_can_be_cancelled(make_pool, start_method, tmp_path, watched):
    pool = make_pool(2)
    pool.wait_warm(BOUND)
    for attempt in range(20):
        path, before = tmp_path / str(attempt), watched.laid
        futures = submit_notes(pool, path, range(2 * MANY))
        until(lambda before=before: watched.laid > before + 100, "tasks are laid out")
        cancelled = {n for n, future in futures.items() if future.cancel()}
        assert all(futures[n].cancelled() for n in cancelled)
        for number in futures.keys() - cancelled:
            assert isinstance(futures[number].result(BOUND), int)
        until(lambda: pool.stats().queued == pool.stats().running == 0, "nothing is left")
        assert runs(path) == dict.fromkeys(futures.keys() - cancelled, 1)
        if cancelled:
            break
    with pytest.raises(CancelledError):
        futures[max(cancelled)].result(BOUND)


def test_one_after_the_other_is_cancelled_or_runs(make_pool, start_method, tmp_path, watched):
    """Who cancels in the middle of a burst is told the truth each time."""
    pool, path = make_pool(1), tmp_path / "notes"
    futures = submit_notes(pool, path, range(MANY))
    cancelled = {number for number in range(0, MANY, 3) if futures[number].cancel()}
    for number in futures.keys() - cancelled:
        futures[number].result(BOUND)
    assert runs(path) == dict.fromkeys(futures.keys() - cancelled, 1)
    assert pool.stats().tasks_settled["returned"] == MANY - len(cancelled)


def test_a_killed_task_is_not_run_or_its_worker_dies(make_pool, start_method, tmp_path, watched):
    pool, path = make_pool(1), tmp_path / "notes"
    pool.wait_warm(BOUND)
    futures = submit_notes(pool, path, range(MANY))
    until(lambda: watched.laid > 20, "tasks are laid out")
    asked = {number for number, future in futures.items() if future.kill()}
    for number, future in futures.items():
        if not future.cancelled() and future.exception(BOUND) is not None:
            assert number in asked
            assert isinstance(future.exception(), WorkerDied)
    assert set(runs(path).values()) <= {1}


def test_a_shutdown_cancels_what_is_laid_out(make_pool, start_method, tmp_path, watched):
    pool, path = make_pool(2), tmp_path / "notes"
    pool.wait_warm(BOUND)
    futures = submit_notes(pool, path, range(2 * MANY))
    until(lambda: watched.laid > 100, "tasks are laid out")
    pool.shutdown(cancel_futures=True)
    assert all(future.done() for future in futures.values())
    done = {number for number, future in futures.items() if not future.cancelled()}
    assert all(isinstance(futures[number].result(), int) for number in done)
    assert runs(path) == dict.fromkeys(done, 1)


def test_a_close_fails_what_is_laid_out(make_pool, start_method, tmp_path, watched):
    pool, path = make_pool(2, grace=2.0), tmp_path / "notes"
    pool.wait_warm(BOUND)
    futures = submit_notes(pool, path, range(2 * MANY))
    until(lambda: watched.laid > 100, "tasks are laid out")
    pool.close()
    failed = {number for number, future in futures.items() if future.exception() is not None}
    assert all(isinstance(futures[number].exception(), PoolClosed) for number in failed)
    assert runs(path) == dict.fromkeys(futures.keys() - failed, 1)


def test_a_copy_of_the_host_has_no_end_of_a_tray(make_pool, start_method):
    pool = make_pool(1)
    pool.wait_warm(BOUND)
    theirs = {
        os.readlink(f"/proc/self/fd/{descriptor}")
        for descriptor, target in processes.descriptors(os.getpid()).items()
        if target.startswith("socket:")
    }
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        held = set(processes.descriptors(os.getpid()).values())
        os.write(writing, b"y" if held & theirs else b"n")
        os._exit(0)
    try:
        assert os.read(reading, 1) == b"n"
    finally:
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


class Reading:
    """The supervisor's reading of what workers have written, which can be held up."""

    def __init__(self, monkeypatch):
        self._may = threading.Event()
        self._may.set()
        read = Fleet._read

        def wait_and_read(fleet, worker, held):
            assert self._may.wait(BOUND)
            return read(fleet, worker, held)

        monkeypatch.setattr(Fleet, "_read", wait_and_read)

    def stop(self):
        self._may.clear()

    def go_on(self):
        self._may.set()


@pytest.fixture
def reading(monkeypatch):
    reading = Reading(monkeypatch)
    yield reading
    reading.go_on()


def test_what_is_begun_behind_one_that_wrote_garbage_is_lost_with_their_worker(
    make_pool, start_method, make_gate, tmp_path, reading
):
    """And nothing else is; nor is it run again, unless it may be."""
    pool, path, before, behind = make_pool(1), tmp_path / "notes", make_gate(), make_gate()
    quick = [pool.submit(abs, -number) for number in range(50)]
    culprit = pool.submit(tasks.hold_and, before, "writes_garbage_and_goes_on")
    # Each of these two is begun; the first is over, and its answer is not to be found.
    answered = pool.submit(tasks.note, path, "answered")
    again = pool.options(retries=1).submit(tasks.note, path, "again")
    begun = pool.submit(hold, behind)
    rest = submit_notes(pool, path, range(100))
    pid = before.arrived()
    until(lambda: begun.lies, "they are laid out")
    reading.stop()
    before.open()
    assert behind.arrived() == pid
    reading.go_on()
    assert isinstance(outcome(culprit), ProtocolError)
    for lost in (answered, begun):
        error = outcome(lost)
        assert isinstance(error, WorkerDied)
        assert (error.pid, error.signal, error.started) == (pid, signal.SIGKILL, True)
        assert "for what another task of the same worker had done" in str(error)
        assert lost.info.attempts == 1
    assert [future.result(BOUND) for future in quick] == [*range(50)]
    assert again.result(BOUND) not in (pid, None)
    assert {future.result(BOUND) for future in rest.values()} == {again.result()}
    counts = Counter(text for _, text in tasks.notes(path))
    assert counts == {"answered": 1, "again": 2, **dict.fromkeys(map(str, rest), 1)}
