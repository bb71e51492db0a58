"""Nothing hangs unseen, nothing outlives its host, nothing ends without a trace of where it was."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.conftest import Reports
from tests.helpers import faults, processes, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.hosts import Host
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import (
    InitializerFailed,
    TaskTimeout,
    WarmPool,
    WorkerDied,
    WorkerUnresponsive,
)

MakePool = Callable[..., WarmPool]
RunHost = Callable[..., Host]

BEATS: dict[str, Any] = {"heartbeat_interval": 0.1, "heartbeat_timeout": 1.0}

# ------------------------------------------------------------------------------- heartbeats


def test_a_stopped_worker_is_found_while_it_is_idle(
    make_pool: MakePool, start_method: str, reports: Reports
) -> None:
    pool = make_pool(1, **BEATS)
    pid = pool.submit(tasks.own_pid).result(BOUND)
    os.kill(pid, signal.SIGSTOP)
    error, _ = reports.of_worker(pid)
    assert type(error) is WorkerUnresponsive
    assert (error.stage, error.limit, error.started) == ("idle", 1.0, False)
    assert error.stack
    assert pool.submit(tasks.own_pid).result(BOUND) != pid


def test_a_stopped_worker_is_found_while_it_is_busy(
    make_pool: MakePool, start_method: str, gate: Gate
) -> None:
    pool = make_pool(1, **BEATS)
    future = pool.submit(hold, gate)
    pid = gate.arrived()
    os.kill(pid, signal.SIGSTOP)
    error = outcome(future)
    assert type(error) is WorkerUnresponsive
    assert (error.pid, error.stage, error.started) == (pid, "busy", True)
    assert error.stack is not None
    assert "in hold" in error.stack
    assert "() at " in str(error)
    processes.wait_gone(pid)


def test_a_worker_whose_interpreter_is_held_is_found_with_its_stack(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(1, **BEATS)
    error = outcome(pool.submit(faults.perform, "hangs_with_the_gil"))
    assert type(error) is WorkerUnresponsive
    assert error.stack is not None
    assert "in hangs_with_the_gil" in error.stack
    assert pool.submit(tasks.echo, 1).result(BOUND) == 1


def test_a_task_that_never_started_on_a_stopped_worker_runs_elsewhere(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(1, **BEATS)
    stopped = pool.submit(tasks.own_pid).result(BOUND)
    os.kill(stopped, signal.SIGSTOP)
    future = pool.submit(tasks.own_pid)
    assert future.result(BOUND) != stopped
    assert future.info.attempts == 2


def test_a_task_that_only_computes_is_left_alone(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(1, **BEATS)
    future = pool.submit(tasks.compute_for, 3.0)
    assert future.result(BOUND) == future.info.pid
    assert future.info.attempts == 1


def test_its_title_tells_what_a_worker_does(
    make_pool: MakePool, start_method: str, gate: Gate
) -> None:
    pool = make_pool(1, name="painters", heartbeat_interval=0.05)
    pid = pool.submit(tasks.own_pid).result(BOUND)
    until(lambda: processes.command_line(pid) == "warmpool: painters 1 [idle]", "it is idle")
    future = pool.submit(hold, gate)
    gate.arrived()
    until(lambda: processes.command_line(pid) == "warmpool: painters 1 [busy 2]", "it is busy")
    gate.open()
    assert outcome(future) is None
    until(lambda: processes.command_line(pid) == "warmpool: painters 1 [idle]", "it is idle again")


STALLED = """
    import os, sys, time
    from warmpool import WarmPool
    from tests.helpers import tasks

    def main(method):
        with WarmPool(
            2, start_method=method, heartbeat_interval=0.1, heartbeat_timeout=1.0
        ) as pool:
            pool.wait_warm(20)
            future = pool.submit(tasks.compute_for, 4.0)
            print("ready", flush=True)
            sys.stdin.readline()
            # Long enough for several checks after the stall.
            print(future.result(20) == future.info.pid, pool.stats().workers_started, flush=True)

    if __name__ == "__main__":
        main(*sys.argv[1:])
"""


def test_a_stall_of_the_host_is_not_blamed_on_its_workers(
    run_host: RunHost, start_method: str
) -> None:
    host = run_host(STALLED, start_method)
    assert host.line() == "ready"
    os.kill(host.pid, signal.SIGSTOP)
    # The host's workers beat on, and so would be seen to beat. Stopped with it, they do not.
    stopped = [pid for pid in host.members() if pid != host.pid]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(3.0)  # The stall itself.
    os.kill(host.pid, signal.SIGCONT)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    host.say()
    assert host.line() == "True 2"
    assert host.wait() == 0
    assert host.stderr == ""


# ------------------------------------------------------------------------------- stacks


@pytest.mark.parametrize("name", ["hangs_asleep", "hangs_with_the_gil"])
def test_a_task_that_runs_into_its_limit_tells_where_it_was(
    make_pool: MakePool, start_method: str, name: str
) -> None:
    pool = make_pool(1)
    error = outcome(pool.options(timeout=0.4).submit(faults.perform, name))
    assert type(error) is TaskTimeout
    assert error.stack is not None
    assert f"in {name}" in error.stack
    assert "warmpool/child.py" not in error.stack
    assert f"{name}() at " in str(error)


def test_an_initializer_that_hangs_tells_where_it_was(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(
        1, init_timeout=1.0, initializer=faults.perform, initargs=("hangs_with_the_gil",)
    )
    with pytest.raises(InitializerFailed) as caught:
        pool.wait_warm(BOUND)
    assert caught.value.stack is not None
    assert "in hangs_with_the_gil" in caught.value.stack


def test_a_crash_tells_where_it_was(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(1)
    error = outcome(pool.submit(faults.perform, "segfaults"))
    assert type(error) is WorkerDied
    assert error.signal == signal.SIGSEGV
    assert error.stack is not None
    assert "Segmentation fault" in error.stack
    assert "in segfaults" in error.stack


def test_the_crash_of_what_a_task_forked_is_not_the_workers(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(1)
    error = outcome(pool.submit(tasks.fork_one_that_segfaults_and_die))
    assert type(error) is WorkerDied
    assert error.stack is None


# ------------------------------------------------------------------------------- orphans

ORPHANED = """
    import os, sys, time
    from warmpool import WarmPool
    from tests.helpers import faults, tasks

    def main(method, stage, name):
        how = {"initializer": faults.perform, "initargs": (name,)} if stage == "warming" else {}
        pool = WarmPool(2, start_method=method, **how)
        if stage == "busy":
            pool.wait_warm(20)
            pool.submit(faults.perform, name)
            pool.submit(tasks.own_pid).result(20)
        print("ready", flush=True)
        time.sleep(60)

    if __name__ == "__main__":
        main(*sys.argv[1:])
"""


@pytest.mark.parametrize("name", ["hangs_asleep", "hangs_with_the_gil", "is_stopped"])
@pytest.mark.parametrize("stage", ["warming", "busy"])
def test_a_killed_host_takes_its_workers_along_whatever_they_do(
    run_host: RunHost, start_method: str, stage: str, name: str
) -> None:
    host = run_host(ORPHANED, start_method, stage, name)
    assert host.line() == "ready"
    host.kill()
    host.wait_deserted()


HANGS_IN_ITS_IMPORT = """
    import os, sys, time

    if __name__ != "__main__" and os.environ.get("HANG"):
        os.write(2, b"importing\\n")
        time.sleep(60)

    from warmpool import WarmPool

    if __name__ == "__main__":
        os.environ["HANG"] = "1"
        pool = WarmPool(1, start_method=sys.argv[1])
        print("ready", flush=True)
        time.sleep(60)
"""


def test_a_killed_host_takes_a_worker_along_that_imports_the_main_module(run_host: RunHost) -> None:
    host = run_host(HANGS_IN_ITS_IMPORT, "spawn")
    assert host.line() == "ready"
    until(lambda: "importing" in host.stderr, "the worker imports the main module")
    host.kill()
    host.wait_deserted()
