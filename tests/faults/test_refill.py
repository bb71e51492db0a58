"""Every slot is refilled, however its workers fail; and the pool says how it is meanwhile."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import Reports
from tests.helpers import faults, leaks, policies, processes, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.hosts import Host
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import (
    Health,
    InitializerFailed,
    PoolBroken,
    QueueTimeout,
    RemoteTraceback,
    WarmPool,
    WorkerDied,
)
from warmpool.restart import RestartPolicy

MakePool = Callable[..., WarmPool]
RunHost = Callable[..., Host]

# ------------------------------------------------------------------------------- the first wedge


def _short(start_method: str) -> float:
    """An ``init_timeout`` that a healthy worker keeps: a fork has nothing to import."""
    return 0.3 if start_method == "fork" else 1.5


def test_a_child_that_never_says_a_word_is_failed_killed_and_replaced(
    following: MakePool, orders: faults.Orders, reports: Reports, start_method: str
) -> None:
    """The case that started this project: one worker, 300 ms, a child without a first message.

    There, ``initialize()`` waited for that message alone: the time-out killed nobody, the lock
    was never released, and everything behind it was pending for ever, with one line in the log.
    """
    orders.give("starting", "hangs_deaf_to_signals")
    with policies.use(policies.PATIENT):
        pool = following(1, init_timeout=_short(start_method))
    future = pool.submit(tasks.own_pid)
    silent = until(lambda: orders.taken_by("starting"), "the child hangs")
    error, _ = reports.of_worker(silent)
    assert isinstance(error, InitializerFailed)
    assert (error.stage, error.limit) == ("starting", _short(start_method))
    processes.wait_gone(silent)
    assert future.result(BOUND) != silent
    pool.wait_warm(BOUND)
    assert pool.health is Health.READY


def test_children_that_never_say_a_word_fail_what_waits_for_them(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warmpool.child.main", tasks.hang_without_a_word)
    with policies.use(policies.STRICT):
        pool = make_pool(1, start_method="fork", init_timeout=0.3)
    error = outcome(pool.submit(tasks.own_pid))
    assert isinstance(error, PoolBroken)
    assert isinstance(error.__cause__, InitializerFailed)
    with pytest.raises(InitializerFailed):
        pool.wait_warm(BOUND)


# ------------------------------------------------------------------------------- back-off, health


class _Census(threading.Thread):
    """Counts the live workers, over and over."""

    def __init__(self, start_method: str) -> None:
        super().__init__(name="census")
        self._via_server = start_method != "spawn"
        self.spares = int(start_method == "template")
        """A template is one fork ahead."""
        self._done = threading.Event()
        self.most = 0

    def run(self) -> None:
        while not self._done.wait(0.002):
            self.most = max(self.most, len(self._workers()))

    def _workers(self) -> list[int]:
        """A fork server and the resource tracker are no workers."""
        found = [pid for pid in leaks.descendants() if processes.is_running(pid)]
        if self._via_server:
            return [pid for pid in found if processes.parent(pid) != os.getpid()]
        return [pid for pid in found if "resource_tracker" not in processes.command_line(pid)]

    @contextmanager
    def taken(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self._done.set()
            self.join()


def test_a_pool_that_cannot_get_warm_says_so_goes_on_probing_and_heals(
    make_pool: MakePool, reports: Reports, start_method: str, tmp_path: Path
) -> None:
    cure, notes = tmp_path / "cure", tmp_path / "notes"
    policy = RestartPolicy(first_delay=0.02, longest_delay=0.2, failures_per_slot=1)
    census = _Census(start_method)
    with census.taken():
        with policies.use(policy):
            pool = make_pool(2, initializer=tasks.need, initargs=(cure, notes))
        assert pool.health is not Health.BROKEN
        waiting = [pool.submit(tasks.own_pid) for _ in range(3)]
        for future in waiting:
            error = outcome(future)
            assert isinstance(error, PoolBroken)
            assert isinstance(error.__cause__, InitializerFailed)
            assert isinstance(error.__cause__.__cause__, RemoteTraceback)
            assert "no cure" in str(error)
        assert pool.health is Health.BROKEN
        assert not pool.available
        with pytest.raises(PoolBroken) as caught:
            pool.submit(tasks.own_pid)
        assert isinstance(caught.value.__cause__, InitializerFailed)
        with pytest.raises(InitializerFailed, match="no cure"):
            pool.wait_warm(BOUND)

        # One line for each failure, with its cause.
        failures = pool.stats().workers_failed
        for _ in range(failures):
            error, line = reports.next()
            assert isinstance(error, InitializerFailed)
            assert "no cure" in line

        # Probing: one worker at a time, a longest delay apart.
        broken_since = len(tasks.notes(notes))
        until(lambda: len(tasks.notes(notes)) >= broken_since + 4, "probing goes on")
        times = [float(text) for _, text in tasks.notes(notes)][broken_since + 1 :]
        # On the whole: each notes the time when it has come so far, one later than another.
        assert times[-1] - times[0] >= 0.5 * 0.2 * (len(times) - 1)
        assert pool.health is Health.BROKEN

        cure.touch()
        until(lambda: pool.health is Health.READY, "the pool has healed")
        assert pool.available
        assert pool.submit(tasks.echo, 1).result(BOUND) == 1
        pool.wait_warm(BOUND)
        assert pool.stats().workers == {"idle": 2}
    assert 1 <= census.most <= 2 + census.spares


def test_delays_grow_with_each_failure_in_a_row(make_pool: MakePool, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    policy = RestartPolicy(first_delay=0.04, longest_delay=0.3, failures_per_slot=1000)
    with policies.use(policy):
        pool = make_pool(
            1, start_method="fork", initializer=tasks.need, initargs=(tmp_path / "cure", notes)
        )
    until(lambda: len(tasks.notes(notes)) >= 6, "it is tried over and over")
    times = [float(text) for _, text in tasks.notes(notes)]
    for failures, (before, after) in enumerate(itertools.pairwise(times)):
        assert after - before >= 0.8 * min(0.3, 0.04 * 2**failures)
    assert pool.health is Health.DEGRADED
    with pytest.raises(TimeoutError) as caught:
        pool.wait_warm(0.05)
    assert isinstance(caught.value.__cause__, InitializerFailed)
    (tmp_path / "cure").touch()
    pool.wait_warm(BOUND)
    assert pool.health is Health.READY


def test_workers_that_get_warm_and_die_at_once_are_no_busy_loop(
    make_pool: MakePool, tmp_path: Path, start_method: str
) -> None:
    policy = RestartPolicy(
        first_delay=0.05, longest_delay=0.05, jitter=0, failures_per_slot=2, stable_after=BOUND
    )
    with policies.use(policy):
        pool = make_pool(1, initializer=tasks.die_when_idle, initargs=(tmp_path / "notes",))
    until(lambda: pool.health is Health.BROKEN, "the pool calls itself broken")
    times = [float(text) for _, text in tasks.notes(tmp_path / "notes")]
    for before, after in itertools.pairwise(times):
        assert after - before >= 0.05
    with pytest.raises(PoolBroken) as caught:
        pool.submit(tasks.own_pid)
    assert isinstance(caught.value.__cause__, WorkerDied)


def test_a_healthy_worker_keeps_the_pool_from_being_broken(
    following: MakePool, orders: faults.Orders, gate: Gate, start_method: str
) -> None:
    with policies.use(policies.STRICT):
        pool = following(2)
    pool.wait_warm(BOUND)
    busy = pool.submit(hold, gate)
    gate.arrived()
    for _ in range(5):
        pid = pool.submit(tasks.own_pid).result(BOUND)
        orders.give("initializing", "exits_with_3")
        failed = pool.stats().workers_failed
        os.kill(pid, signal.SIGKILL)
        until(lambda failed=failed: pool.stats().workers_failed > failed, "a start has failed")
        assert pool.available
    assert pool.submit(tasks.echo, "served").result(BOUND) == "served"
    gate.open()
    assert busy.result(BOUND) is None


def test_a_queue_timeout_is_kept_while_the_pool_gets_no_worker_warm(
    make_pool: MakePool, start_method: str
) -> None:
    with policies.use(policies.PATIENT):
        pool = make_pool(1, initializer=faults.raises, queue_timeout=0.3)
    assert isinstance(outcome(pool.submit(tasks.own_pid)), QueueTimeout)


# ------------------------------------------------------------------------------- importing __main__

MAIN = """
    import sys
    from pathlib import Path
    from tests.helpers import faults, policies, tasks
    from warmpool import InitializerFailed, PoolBroken, WarmPool

    if __name__ == "__mp_main__":
        faults.Orders(Path(sys.argv[2])).follow("importing")

    def main():
        orders = faults.Orders(Path(sys.argv[2]))
        orders.give("importing", sys.argv[3])
        with policies.use(policies.PATIENT):
            pool = WarmPool(1, start_method=sys.argv[1], init_timeout=float(sys.argv[4]))
        pid = pool.submit(tasks.own_pid).result(20)
        print(pid, orders.taken_by("importing"), pool.stats().workers_failed, flush=True)
        pool.close()

    if __name__ == "__main__":
        main()
"""


@pytest.mark.parametrize(
    ("start_method", "name"),
    [
        pytest.param(method, name, id=f"{method}-{name}")
        for method in ("spawn", "forkserver")
        for name in (
            *("raises", "calls_sys_exit", "exits_with_0", "dies_of_sigkill"),
            *("hangs_asleep", "hangs_with_the_gil", "is_stopped"),
        )
    ],
    indirect=["start_method"],
)
def test_a_worker_that_fails_while_it_imports_the_main_module_is_replaced(
    run_host: RunHost, orders: faults.Orders, start_method: str, name: str
) -> None:
    hangs = faults.FAULTS[name].end is faults.End.HANGS
    host = run_host(MAIN, start_method, orders.folder, name, 1.5 if hangs else BOUND)
    pid, culprit, failed = host.numbers()
    assert pid != culprit
    assert failed >= 1
    assert host.wait() == 0
    host.wait_deserted()
    assert host.temporary_files() == []


UNGUARDED = """
    import os, sys
    from warmpool import PoolBroken, WarmPool

    pool = WarmPool(2, start_method=sys.argv[1])
    try:
        pool.submit(abs, -1).result(20)
    except PoolBroken as error:
        print(type(error.__cause__).__name__, pool.stats().workers_started, flush=True)
    pool.close()
"""


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"], indirect=True)
def test_a_pool_made_where_the_main_module_is_imported_fails_with_a_hint(
    run_host: RunHost, start_method: str
) -> None:
    host = run_host(UNGUARDED, start_method)
    kind, started = host.line().split()
    assert kind == "InitializerFailed"
    assert int(started) < 12
    assert host.wait() == 0
    assert "if __name__ == '__main__'" in host.stderr
    host.wait_deserted()
