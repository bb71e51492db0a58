"""What befalls the pool's fork server befalls neither workers nor tasks."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import forkserver, spawn, util

import pytest

from tests.helpers import faults, policies, processes, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.hosts import Host
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import (
    WarmPool,
    WorkerDied,
)

MakePool = Callable[..., WarmPool]


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
    # Nobody is left who could tell its exit status, but for the kernel, for a moment.
    assert error.exitcode in (None, 3)
    assert ("unknown" in str(error)) is (error.exitcode is None)
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


IMPORTS = """
    import os
    IMPORTED_BY = os.getpid()

    def importer():
        return IMPORTED_BY, os.getpid()

    if __name__ == "__main__":
        from warmpool import WarmPool
        with WarmPool(1, start_method="forkserver", max_tasks_per_child=1) as pool:
            for _ in range(2):
                by, worker = pool.submit(importer).result(20)
                print(by == worker, flush=True)
"""


def test_each_worker_imports_the_main_module_itself(run_host: Callable[..., Host]) -> None:
    """In the server it would leave threads, to be forked beside, and pools that are nobody's."""
    host = run_host(IMPORTS)
    assert [host.line(), host.line()] == ["True", "True"]
    assert host.wait() == 0


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


DEAD_BEFORE_IT_READS = """
    import multiprocessing, select, signal
    from pathlib import Path
    from tests.helpers import policies, tasks
    from tests.helpers.waiting import until
    from warmpool import WarmPool, servers

    real, waited = servers.write, []

    def write_late(descriptor, body):
        if not waited:
            # Until nobody has the reading end any more.
            poll = select.poll()
            poll.register(descriptor, 0)
            waited.extend(poll.poll(20_000))
            assert waited[0][1] & select.POLLERR
        real(descriptor, body)

    if __name__ == "__main__":
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        servers.write = write_late
        Path("dying.py").write_text(
            "import os, pathlib\\n"
            "def die():\\n"
            "    try:\\n"
            "        pathlib.Path('first').touch(exist_ok=False)\\n"
            "    except FileExistsError:\\n"
            "        return\\n"
            "    os._exit(7)\\n"
            "os.register_at_fork(after_in_child=die)"
        )
        multiprocessing.set_forkserver_preload(["dying"])
        with policies.use(policies.PATIENT):
            pool = WarmPool(1, start_method="forkserver")
        print(pool.submit(tasks.echo, "served").result(20), len(waited), flush=True)
        print(pool.stats().workers_failed, flush=True)
        pool.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what a pipe says of its other end")
def test_a_worker_that_dies_before_it_has_read_anything_harms_no_host_that_dies_of_sigpipe(
    run_host: Callable[..., Host],
) -> None:
    host = run_host(DEAD_BEFORE_IT_READS)
    assert host.line() == "served 1"
    assert host.line() == "1"
    assert host.wait() == 0


KILLED_AS_IT_IS_COPIED = """
import os, signal, sys
from warmpool.tie import Tie

tie = Tie()
tie.fasten(int(sys.argv[1]))
reading, writing = os.pipe()
let_go = tie.close_after_fork

def late():
    os.close(writing)
    os.read(reading, 1)  # Until the host has ended.
    let_go()

tie.close_after_fork = late
if os.fork() == 0:
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signals for descriptors")
def test_a_stopped_server_does_not_outlive_a_host_killed_while_it_is_copied() -> None:
    """The copy has the ends of the tie for a moment, and is not to keep the server by that."""
    with subprocess.Popen(["sleep", "600"]) as server:
        server.send_signal(signal.SIGSTOP)
        script = [sys.executable, "-c", KILLED_AS_IT_IS_COPIED, str(server.pid)]
        host = subprocess.run(script, check=False, timeout=BOUND)
        assert host.returncode == -signal.SIGKILL
        assert server.wait(BOUND) == -signal.SIGKILL


def test_a_server_that_cannot_be_executed_leaves_nothing(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From CPython 3.14 on it is told a key, and the pipe breaks if it is dead by then."""
    with policies.use(policies.PATIENT):
        pool = make_pool(1, start_method="forkserver")
    pool.wait_warm(BOUND)
    worker = pool.submit(tasks.own_pid).result(BOUND)
    os.kill(_server(), signal.SIGKILL)
    with monkeypatch.context() as patch:
        patch.setattr(spawn, "_python_exe", b"/nowhere/python")
        os.kill(worker, signal.SIGKILL)
        until(lambda: pool.stats().workers_failed >= 3, "some starts have failed")
    assert pool.submit(tasks.echo, 1).result(BOUND) == 1


def test_a_server_that_there_is_no_memory_for_leaves_nothing(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket on which it was to listen has a name by then."""

    def none(*_arguments: object) -> int:
        raise OSError(errno.ENOMEM, "no memory")

    with policies.use(policies.PATIENT), monkeypatch.context() as patch:
        patch.setattr(util, "spawnv_passfds", none)
        pool = make_pool(1, start_method="forkserver")
        until(lambda: pool.stats().workers_failed >= 3, "some starts have failed")
    assert pool.submit(tasks.echo, 1).result(BOUND) == 1
