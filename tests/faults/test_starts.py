"""Starts that fail in the host, or hang there."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.conftest import Reports
from tests.helpers import policies, processes, tasks
from tests.helpers.gate import Gate
from tests.helpers.hosts import Host
from tests.helpers.waiting import BOUND, until
from warmpool import (
    Health,
    InitializerFailed,
    WarmPool,
)
from warmpool.start import StartMethod
from warmpool.start import start_method as real_start_method

MakePool = Callable[..., WarmPool]
RunHost = Callable[..., Host]

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


SCARCE = """
    import gc, os, re, resource, signal, sys
    from collections import Counter
    from tests.helpers import policies, processes, tasks
    from tests.helpers.waiting import until
    from warmpool import WarmPool

    fillers = []

    def drop(count):
        while fillers and count:
            os.close(fillers.pop())
            count -= 1

    # A copy of the host would have them too.
    os.register_at_fork(after_in_child=lambda: drop(1 << 16))

    def held():
        gc.collect()
        held = processes.descriptors(os.getpid()).values()
        return Counter(re.sub("[0-9]+", "#", to) for to in held)

    def fill(free):
        try:
            while True:
                fillers.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            drop(free)

    def is_idle():
        stats = pool.stats()
        return stats.workers == {"idle": 1} and stats.details[0].pid

    if __name__ == "__main__":
        with policies.use(policies.PATIENT):
            pool = WarmPool(1, start_method=sys.argv[1])
        limit = 64
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        os.kill(pool.submit(tasks.own_pid).result(20), signal.SIGKILL)
        before = pool.submit(tasks.own_pid).result(20) and held()
        for free in range(20):
            pid, failed = until(is_idle, "a worker is warm"), pool.stats().workers_failed
            if sys.argv[2] == "server":
                for child in processes.children(os.getpid()):
                    if child != pid and "tracker" not in processes.command_line(child):
                        os.kill(child, signal.SIGKILL)
                        processes.wait_gone(child)
            fill(free)
            os.kill(pid, signal.SIGKILL)
            until(lambda: is_idle() not in (False, pid) or pool.stats().workers_failed > failed + 1,
                  f"a start comes to its end with {free} descriptors free")
            drop(limit)
            print(free, flush=True)
        until(is_idle, "a worker is warm")
        until(lambda: not held() - before, f"not before: {held() - before}", 5)
        pool.close()
"""


@pytest.mark.timeout(300)  # Twenty starts, each of which has the bound of one.
@pytest.mark.parametrize("dies", ["worker", "server"])
def test_a_start_that_meets_the_limit_of_descriptors_anywhere_keeps_none(
    run_host: RunHost, start_method: str, dies: str
) -> None:
    if (start_method, dies) == ("spawn", "server"):
        pytest.skip("it has none")
    host = run_host(SCARCE, start_method, dies)
    for free in range(20):
        assert host.numbers() == [free]
    assert host.wait() == 0, host.stderr
    host.wait_deserted()


EAGAIN = """
    import errno, os, signal, sys
    from unittest import mock
    from tests.helpers import processes, tasks
    from tests.helpers.waiting import until
    from warmpool import WarmPool

    def refuse(*_):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    if __name__ == "__main__":
        pool = WarmPool(2, start_method=sys.argv[1])
        pool.wait_warm(20)
        pid = pool.submit(tasks.own_pid).result(20)
        with mock.patch("multiprocessing.util.spawnv_passfds", refuse):
            for child in processes.children(os.getpid()):
                if "multiprocessing.forkserver" in processes.command_line(child):
                    os.kill(child, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)
            until(lambda: pool.stats().workers_failed >= 3, "starts fail")
            print(pool.health.name, pool.submit(tasks.echo, "served").result(20), flush=True)
        pool.wait_warm(20)
        print(pool.health.name, pool.stats().workers["idle"], flush=True)
        pool.close()
"""


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"], indirect=True)
def test_a_host_that_is_out_of_processes_for_a_while_heals(
    run_host: RunHost, start_method: str
) -> None:
    """As under the limit of processes, which root, and so most containers, do not feel."""
    host = run_host(EAGAIN, start_method)
    assert host.line() == "DEGRADED served"
    assert host.line() == "READY 2"
    assert host.wait() == 0
    assert "Resource temporarily unavailable" in host.stderr
    assert "Traceback" not in host.stderr
    host.wait_deserted()


class _Unwilling:
    """A start method that fails a few times before it does as it should."""

    def __init__(self, method: StartMethod, failures: list[BaseException]) -> None:
        self.name, self.via_server, self.pickles = method.name, method.via_server, method.pickles
        self._method = method
        self._failures = failures
        self.broken_off = threading.Event()

    def open(self, *args: Any) -> None:
        self._method.open(*args)

    def start(self, *args: Any) -> Any:
        if self._failures:
            raise self._failures.pop(0)
        return self._method.start(*args)

    def renew(self) -> None:
        self._method.renew()

    def reload(self) -> None:
        self._method.reload()

    def abandon(self) -> None:
        self._method.abandon()

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
