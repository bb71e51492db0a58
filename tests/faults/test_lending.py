"""Tasks that go past the supervisor to a worker on loan, and what may befall them."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from tests.helpers.waiting import BOUND, until
from warmpool import TaskTimeout
from warmpool.lease import LONGEST_FRAME, Lease
from warmpool.lending import Lender

_order: list[int] = []


def note(number, _padding=b""):
    _order.append(number)
    return list(_order)


def lent(pool):
    """Whether the supervisor sleeps with a worker on loan, which takes it a moment."""
    return bool(pool._desk._supervisor.lender._leases)


def wait_lent(pool):
    pool.wait_warm(BOUND)
    until(lambda: lent(pool), "a worker is on loan")


def test_a_warm_task_takes_the_short_cut(make_pool, monkeypatch):
    sent = []
    real = Lease.send

    def send(self, submission):
        sent.append(submission.spec.id)
        return real(self, submission)

    monkeypatch.setattr(Lease, "send", send)
    pool = make_pool(1)
    wait_lent(pool)
    future = pool.submit(abs, -5)
    assert future.running() or future.done()
    assert future.result(BOUND) == 5
    assert sent == [1]
    assert pool.stats().tasks_settled == {"returned": 1}


def test_one_worker_runs_tasks_in_the_order_of_their_submission(make_pool):
    pool = make_pool(1)
    long = b"x" * (LONGEST_FRAME + 1)
    for _ in range(30):
        wait_lent(pool)
        before = pool.submit(note, -1).result(BOUND)
        futures = [pool.submit(note, n, long if n % 3 == 0 else b"") for n in range(6)]
        order = futures[-1].result(BOUND)
        assert order[len(before) :] == [0, 1, 2, 3, 4, 5]


def test_a_task_for_a_worker_that_died_in_this_instant_runs_elsewhere(make_pool, monkeypatch):
    pool = make_pool(1)
    wait_lent(pool)
    victim = pool.submit(os.getpid).result(BOUND)
    wait_lent(pool)
    real = Lease.send

    def send(self, submission):
        # The lease is taken, the worker dies, and only then comes the frame.
        monkeypatch.setattr(Lease, "send", real)
        os.kill(victim, signal.SIGKILL)
        return real(self, submission)

    monkeypatch.setattr(Lease, "send", send)
    future = pool.submit(os.getpid)
    assert future.result(BOUND) != victim
    assert future.info.attempts >= 2


def test_a_submitter_that_is_stopped_half_way_costs_one_worker(make_pool, monkeypatch):
    pool = make_pool(1)
    wait_lent(pool)
    taken, go_on = threading.Event(), threading.Event()
    real = Lease.send

    def send(self, submission):
        monkeypatch.setattr(Lease, "send", real)
        taken.set()
        assert go_on.wait(BOUND)
        return real(self, submission)

    monkeypatch.setattr(Lease, "send", send)
    futures = []
    stopped = threading.Thread(target=lambda: futures.append(pool.submit(abs, -1)))
    stopped.start()
    assert taken.wait(BOUND)
    # Somebody else's task waits behind one that is not there, and no longer than a while.
    assert pool.submit(abs, -2).result(BOUND) == 2
    go_on.set()
    stopped.join()
    assert futures[0].result(BOUND) == 1


def test_a_signal_handler_between_lease_and_frame_may_wait_for_a_task(make_pool, monkeypatch):
    pool = make_pool(1)
    wait_lent(pool)
    real, inner = Lease.send, []

    def handler(*_):
        inner.append(pool.submit(abs, -2).result(BOUND))

    def send(self, submission):
        monkeypatch.setattr(Lease, "send", real)
        signal.raise_signal(signal.SIGUSR1)
        return real(self, submission)

    monkeypatch.setattr(Lease, "send", send)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        assert pool.submit(abs, -1).result(BOUND) == 1
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert inner == [2]


def test_a_ctrl_c_between_lease_and_frame_leaves_a_pool_that_works(make_pool, monkeypatch):
    pool = make_pool(1)
    wait_lent(pool)
    real = Lease.send

    def send(self, submission):
        monkeypatch.setattr(Lease, "send", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(Lease, "send", send)
    with pytest.raises(KeyboardInterrupt):
        pool.submit(abs, -1)
    assert pool.submit(abs, -2).result(BOUND) == 2


def test_the_limit_of_a_lent_task_holds(make_pool, start_method):
    pool = make_pool(1)
    wait_lent(pool)
    future = pool.options(timeout=0.2).submit(signal.pause)
    with pytest.raises(TaskTimeout):
        future.result(BOUND)


def test_a_lent_task_is_killed_and_counted_like_any(make_pool):
    pool = make_pool(1)
    wait_lent(pool)
    future = pool.submit(signal.pause)
    stats = pool.stats()
    assert (stats.running, stats.queued) == (1, 0)
    assert future.kill()
    assert future.exception(BOUND) is not None


def test_a_close_answers_a_task_whose_submitter_is_stopped_half_way(make_pool, monkeypatch):
    pool = make_pool(1, grace=0.1)
    wait_lent(pool)
    taken, go_on = threading.Event(), threading.Event()
    real = Lender.take

    def take(self, submission):
        lease = self._leases.popleft()
        submission.future.handed_over(lease.pid, 0.0)
        assert lease.take(submission)
        taken.set()
        assert go_on.wait(BOUND)
        return True

    monkeypatch.setattr(Lender, "take", take)
    futures = []
    stopped = threading.Thread(target=lambda: futures.append(pool.submit(abs, -1)))
    stopped.start()
    assert taken.wait(BOUND)
    monkeypatch.setattr(Lender, "take", real)
    pool.close(BOUND)
    go_on.set()
    stopped.join()
    assert futures[0].exception(BOUND) is not None


def test_a_host_that_dies_of_sigpipe_does_not_die_of_a_worker(run_host, start_method):
    """Command-line tools give SIGPIPE its default again, to end with the reader of their output."""
    host = run_host(
        """
        import os, signal, sys
        from warmpool import WarmPool
        from tests.helpers import tasks

        def main(method):
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            with WarmPool(1, start_method=method) as pool:
                for _ in range(20):
                    os.kill(pool.submit(tasks.own_pid).result(20), signal.SIGKILL)
                    pool.submit(bytes, 1 << 20).result(20)
            print("alive", flush=True)

        if __name__ == "__main__":
            main(*sys.argv[1:])
        """,
        start_method,
    )
    assert host.line() == "alive"
    assert host.wait() == 0
