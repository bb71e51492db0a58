"""Every slot is refilled, however its workers fail; and the pool says how it is meanwhile."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

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
from warmpool.start import StartMethod
from warmpool.start import start_method as real_start_method

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
        for before, after in itertools.pairwise(times):
            assert after - before >= 0.8 * 0.2
        assert pool.health is Health.BROKEN

        cure.touch()
        until(lambda: pool.health is Health.READY, "the pool has healed")
        assert pool.available
        assert pool.submit(tasks.echo, 1).result(BOUND) == 1
        pool.wait_warm(BOUND)
        assert pool.stats().workers == {"idle": 2}
    assert 1 <= census.most <= 2


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


# ------------------------------------------------------------------------------- limits

EMFILE = """
    import os, resource, signal, sys, time
    from tests.helpers import tasks
    from tests.helpers.waiting import until
    from warmpool import Health, WarmPool

    if __name__ == "__main__":
        pool = WarmPool(2, start_method=sys.argv[1])
        pool.wait_warm(20)
        pid = pool.submit(tasks.own_pid).result(20)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        os.kill(pid, signal.SIGKILL)
        until(lambda: pool.stats().workers_failed >= 3, "starts fail")
        print(pool.health.name, pool.submit(tasks.echo, "served").result(20), flush=True)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        pool.wait_warm(20)
        print(pool.health.name, pool.stats().workers["idle"], flush=True)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            WarmPool(1, start_method=sys.argv[1])
        except OSError as error:
            print(error.errno, flush=True)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        pool.close()
"""


def test_a_host_that_is_out_of_descriptors_for_a_while_heals(
    run_host: RunHost, start_method: str
) -> None:
    host = run_host(EMFILE, start_method)
    assert host.line() == "DEGRADED served"
    assert host.line() == "READY 2"
    assert host.line() == str(errno.EMFILE)
    assert host.wait() == 0
    assert "Too many open files" in host.stderr  # In the log.
    assert "Traceback" not in host.stderr
    host.wait_deserted()


class _Unwilling:
    """A start method that fails a few times before it does as it should."""

    def __init__(self, method: StartMethod, failures: list[BaseException]) -> None:
        self.name, self.via_server, self.pickles = method.name, method.via_server, method.pickles
        self._method = method
        self._failures = failures
        self.broken_off = threading.Event()

    def open(self, initializer: Any) -> None:
        self._method.open(initializer)

    def start(self, *args: Any) -> Any:
        if self._failures:
            raise self._failures.pop(0)
        return self._method.start(*args)

    def break_off(self) -> None:
        self.broken_off.set()
        self._method.break_off()

    def close(self) -> None:
        self._method.close()


@pytest.fixture
def start_with(
    monkeypatch: pytest.MonkeyPatch, make_pool: MakePool
) -> Callable[[StartMethod], MakePool]:
    """Make pools that start their workers so."""

    def use(method: StartMethod) -> MakePool:
        monkeypatch.setattr("warmpool.pool.find_start_method", lambda _name: method)
        return make_pool

    return use


@pytest.mark.parametrize(
    "error",
    [
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        RuntimeError("can't start new thread"),
        MemoryError(),
        EOFError(),
        SystemExit(1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_start_that_raises_is_one_more_failed_start(
    start_with: Callable[[StartMethod], MakePool], reports: Reports, error: BaseException
) -> None:
    method = _Unwilling(real_start_method("fork"), [error, error, error])
    with policies.use(policies.PATIENT):
        pool = start_with(method)(1)
    assert pool.submit(tasks.echo, 1).result(BOUND) == 1
    for _ in range(3):
        report, line = reports.next()
        assert isinstance(report, InitializerFailed)
        assert report.__cause__ is error
        assert report.pid is None
        assert report.stage == "starting"
        assert repr(error) in line
    assert pool.stats().workers_failed == 3


class _Hanging(_Unwilling):
    """A start method whose first start hangs until it is let go."""

    def __init__(self, method: StartMethod, *, can_be_broken_off: bool) -> None:
        super().__init__(method, [])
        self._can = can_be_broken_off
        self.hangs = threading.Event()
        self.let_go = threading.Event()

    def start(self, *args: Any) -> Any:
        if not self.hangs.is_set():
            self.hangs.set()
            (self.broken_off if self._can else self.let_go).wait(BOUND)
            if self._can:
                raise ConnectionResetError
        return super().start(*args)


@pytest.mark.parametrize("can", [True, False])
def test_a_start_that_hangs_is_broken_off(
    start_with: Callable[[StartMethod], MakePool], reports: Reports, can: bool
) -> None:
    method = _Hanging(real_start_method("fork"), can_be_broken_off=can)
    with policies.use(policies.PATIENT):
        pool = start_with(method)(1, init_timeout=0.3)
    assert method.hangs.wait(BOUND)
    assert pool.submit(tasks.echo, 1).result(BOUND) == 1
    report, _ = reports.next()
    assert isinstance(report, InitializerFailed)
    assert report.limit == 0.3
    # What comes of it after all is killed: the leak check sees to that.
    method.let_go.set()
    pool.close()


def test_close_ends_while_a_start_hangs(start_with: Callable[[StartMethod], MakePool]) -> None:
    method = _Hanging(real_start_method("fork"), can_be_broken_off=False)
    pool = start_with(method)(2)
    assert method.hangs.wait(BOUND)
    pool.close()
    assert pool.health is Health.CLOSED
    method.let_go.set()


# ------------------------------------------------------------------------------- the fork server


def _server() -> int:
    """The pid of the pool's fork server."""
    found = [
        pid
        for pid in processes.children(os.getpid())
        if "multiprocessing.forkserver" in processes.command_line(pid)
    ]
    assert len(found) == 1
    return found[0]


def test_workers_and_tasks_outlive_their_fork_server(
    make_pool: MakePool, make_gate: Callable[[], Gate]
) -> None:
    pool, gate = make_pool(2, start_method="forkserver"), make_gate()
    pool.wait_warm(BOUND)
    running = pool.submit(hold, gate, "unharmed")
    busy = gate.arrived()
    idle = pool.submit(tasks.own_pid).result(BOUND)
    server = _server()
    os.kill(server, signal.SIGKILL)
    processes.wait_gone(server)
    # Not a death of theirs, whatever their sentinels say.
    assert pool.submit(tasks.own_pid).result(BOUND) == idle
    assert pool.stats().workers == {"busy": 1, "idle": 1}
    # The next worker gets a new server.
    future = pool.submit(faults.exits_with_3)
    error = outcome(future)
    assert isinstance(error, WorkerDied)
    # Nobody is left who could tell its exit status.
    assert error.exitcode is None
    assert "unknown" in str(error)
    assert pool.submit(tasks.own_pid).result(BOUND) not in (idle, busy)
    assert _server() != server
    gate.open()
    assert running.result(BOUND) == "unharmed"
    pool.wait_warm(BOUND)


def test_a_stopped_fork_server_is_replaced_and_its_workers_go_on(
    make_pool: MakePool, gate: Gate
) -> None:
    with policies.use(policies.PATIENT):
        pool = make_pool(2, start_method="forkserver", init_timeout=1.5)
    pool.wait_warm(BOUND)
    running = pool.submit(hold, gate, "unharmed")
    busy = gate.arrived()
    idle = pool.submit(tasks.own_pid).result(BOUND)
    server = _server()
    os.kill(server, signal.SIGSTOP)
    os.kill(idle, signal.SIGKILL)
    # Its replacement cannot be had of that server.
    assert pool.submit(tasks.own_pid).result(BOUND) not in (idle, busy)
    assert not processes.is_running(server)
    gate.open()
    assert running.result(BOUND) == "unharmed"


def test_close_ends_with_a_stopped_fork_server(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(2, start_method="forkserver", grace=0.3)
    pool.wait_warm(BOUND)
    running = pool.submit(hold, gate)
    gate.arrived()
    server = _server()
    os.kill(server, signal.SIGSTOP)
    pool.close()
    assert running.done()
    assert pool.stats().workers == {}
    assert not processes.is_running(server)


@pytest.fixture
def preloading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have fork servers preload a module that follows orders."""
    monkeypatch.setattr(
        forkserver._forkserver,  # type: ignore[attr-defined]
        "_preload_modules",
        ["tests.helpers.preloaded"],
    )


@pytest.mark.usefixtures("preloading")
@pytest.mark.parametrize(
    "name", ["raises", "exits_with_0", "dies_of_sigkill", "hangs_asleep", "is_stopped"]
)
def test_a_fork_server_that_fails_while_it_preloads_is_replaced(
    following: MakePool, orders: faults.Orders, name: str
) -> None:
    orders.give("preloading", name)
    with policies.use(policies.PATIENT):
        pool = following(1, start_method="forkserver", init_timeout=1.5)
    assert pool.submit(tasks.echo, 1).result(BOUND) == 1
    server = orders.taken_by("preloading")
    assert server is not None
    assert server != _server()
    processes.wait_gone(server)


@pytest.mark.usefixtures("preloading")
def test_close_ends_while_a_fork_server_hangs_in_its_preload(
    following: MakePool, orders: faults.Orders
) -> None:
    orders.give("preloading", "hangs_deaf_to_signals")
    pool = following(2, start_method="forkserver")
    server = until(lambda: orders.taken_by("preloading"), "the server hangs")
    pool.close()
    processes.wait_gone(server)


# ------------------------------------------------------------------------------- the host's stdin

READING = """
    import sys, threading
    from pathlib import Path
    from tests.helpers import tasks
    from tests.helpers.gate import Gate
    from warmpool import WarmPool

    def serve(pool, place):
        place.hold()
        print(pool.submit(tasks.own_pid).result(20), flush=True)

    if __name__ == "__main__":
        pool = WarmPool(1, start_method=sys.argv[1])
        pid = pool.submit(tasks.own_pid).result(20)
        threading.Thread(target=serve, args=(pool, Gate.at(Path(sys.argv[2])))).start()
        print(pid, flush=True)
        sys.stdin.read()
"""


def test_workers_are_replaced_while_the_host_reads_its_standard_input(
    run_host: RunHost, start_method: str, gate: Gate
) -> None:
    """A fork copies the lock of ``sys.stdin`` as it is: held."""
    host = run_host(READING, start_method, gate.path)
    (pid,) = host.numbers()
    gate.arrived()
    until(lambda: processes.state(host.pid) == "S", "the host reads")
    os.kill(pid, signal.SIGKILL)
    processes.wait_gone(pid)
    gate.open()
    assert host.numbers() != [pid]
    host.kill()
