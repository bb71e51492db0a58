"""What every started worker is, whatever started it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import faults, inspect, processes, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.hosts import Host
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import WarmPool, WorkerDied, tray

MakePool = Callable[..., WarmPool]
RunHost = Callable[..., Host]

# ------------------------------------------------------------------------------- what it is


@pytest.fixture
def handled() -> Iterator[None]:
    """A host with signal handlers, masks and a wake-up descriptor of its own."""

    def handler(_number: int, _frame: Any) -> None:
        raise AssertionError("a handler of the host's ran")

    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGUSR1)}
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    wakeup = signal.set_wakeup_fd(ours.fileno())
    yield
    signal.set_wakeup_fd(wakeup)
    ours.close()
    theirs.close()
    for number, action in before.items():
        signal.signal(number, action)


@pytest.mark.usefixtures("handled")
def test_a_worker_has_little_of_its_host(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(1, name="pool-of-test")
    seen = pool.submit(inspect.describe).result(BOUND)
    assert seen["group"] == seen["pid"] != os.getpgrp()
    assert seen["session"] == os.getsid(0)
    assert seen["daemon"] is False
    assert "pool-of-test" in seen["name"]
    assert seen["main thread"] is True
    assert seen["stdin"] == os.devnull
    assert seen["SIGINT"] is signal.SIG_IGN
    assert seen["SIGTERM"] is signal.SIG_DFL
    assert seen["SIGUSR1"] is signal.SIG_DFL
    assert seen["blocked"] == []
    assert seen["wakeup"] == -1
    assert seen["cwd"] == os.getcwd()
    assert set(sys.path) <= set(seen["path"])
    assert signal.SIGINT in processes.signals(seen["pid"], "SigIgn")


def test_a_worker_has_an_ordinary_main_thread(make_pool: MakePool, start_method: str) -> None:
    """Threads that daemonic ones start are daemonic too, and cut off when the worker retires."""
    seen = make_pool(1).submit(inspect.describe).result(BOUND)
    # The one that beats is not among them: it is not the user's to wait for.
    assert seen["threads"] == ["MainThread"]
    assert seen["new threads are daemonic"] is False


def test_initializer_and_tasks_run_in_the_main_thread(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(1, initializer=inspect.note_thread)
    noted, first = pool.submit(inspect.noted_threads).result(BOUND)
    _, second = pool.submit(inspect.noted_threads).result(BOUND)
    assert noted == {"initializer": first, "main": 1}
    assert second == first


@pytest.mark.parametrize("pickler", ["pickle", "cloudpickle"])
def test_primitives_of_multiprocessing_travel_in_initargs(
    make_pool: MakePool, start_method: str, pickler: str
) -> None:
    # A template's workers are given theirs as those of an interpreter of their own.
    context = multiprocessing.get_context({"template": "spawn"}.get(start_method, start_method))
    value, barrier, queue = context.Value("i", 0), context.Barrier(2), context.SimpleQueue()
    given = value, barrier, queue
    pool = make_pool(2, initializer=inspect.be_given, initargs=given, pickler=pickler)
    futures = [pool.submit(inspect.use_what_was_given, number) for number in (1, 2)]
    assert {future.info.pid for future in futures if future.result(BOUND)} != {None}
    assert value.value == 3
    assert {queue.get(), queue.get()} == {1, 2}
    queue.close()


class _Kept:
    """An argument that can be watched."""


def test_an_ended_pool_lets_go_of_its_initargs(make_pool: MakePool, start_method: str) -> None:
    argument = _Kept()
    gone = weakref.ref(argument)
    # Through a function that takes it and forgets it there.
    pool = WarmPool(1, start_method=start_method, initializer=print, initargs=(argument,))
    pool.close()
    del pool, argument
    gc.collect()
    assert gone() is None


# ------------------------------------------------------------------------------- its descriptors

CHANNELS = 2 + tray.AVAILABLE
"""Data channel, lifeline and, where there are any, tray."""


def test_a_worker_holds_its_own_ends_and_nobody_elses(
    make_pool: MakePool, gate: Gate, start_method: str
) -> None:
    """I7: else it would see its host's death only when its siblings are gone."""
    pool, other = make_pool(3, grace=0.2), make_pool(1)
    for _ in range(3):
        pool.submit(hold, gate)
    pids = [gate.arrived() for _ in range(3)]
    # And one that is started when all the others' ends exist.
    os.kill(pids.pop(), signal.SIGKILL)
    pool.submit(hold, gate)
    pids += [gate.arrived(), other.submit(tasks.own_pid).result(BOUND)]
    assert len(set(pids)) == 4

    ours = _ends(os.getpid(), "socket:") | _ends(os.getpid(), "anon_inode:")
    sockets = [_ends(pid, "socket:") for pid in pids]
    recorders = [_ends(pid, "/memfd:") for pid in pids]
    for pid, held in zip(pids, sockets, strict=True):
        assert len(held) == CHANNELS, "not just the ends of its channels"
        # Its host has the end of its tray as well, to take back what lies there.
        assert len(held & ours) == int(tray.AVAILABLE), "an end of its host's"
        kinds = set(processes.descriptors(pid).values())
        assert not {kind for kind in kinds if "eventpoll" in kind or "pidfd" in kind}
    for kind in (sockets, recorders):
        counts = Counter(end for held in kind for end in held)
        assert set(counts.values()) == {1}, "two workers share something"
    gate.open(3)


def _ends(pid: int, kind: str) -> set[tuple[int, int]]:
    """The descriptors of a kind that a process has, by what they refer to."""
    found = set()
    for descriptor, target in processes.descriptors(pid).items():
        if target.startswith(kind) and descriptor > 2:
            status = os.stat(f"/proc/{pid}/fd/{descriptor}")
            found.add((status.st_dev, status.st_ino))
    return found


def test_what_a_worker_runs_inherits_no_descriptor(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(1)
    listing = pool.submit(
        subprocess.check_output,
        [sys.executable, "-S", "-c", "import os; print(*os.listdir('/proc/self/fd'))"],
        close_fds=False,
        stderr=subprocess.DEVNULL,
    ).result(BOUND)
    descriptors = {int(word) for word in listing.split()}
    pid = pool.submit(tasks.own_pid).result(BOUND)
    channels = {fd for fd, to in processes.descriptors(pid).items() if to.startswith("socket:")}
    assert len(channels) == CHANNELS
    assert not channels & descriptors


# ------------------------------------------------------------------------------- its end


@pytest.mark.parametrize("how", ["close", "shutdown", "recycling"])
def test_hooks_run_when_a_worker_retires_in_order(
    make_pool: MakePool, start_method: str, tmp_path: Path, how: str
) -> None:
    pool = make_pool(1, max_tasks_per_child=1 if how == "recycling" else None)
    path = tmp_path / "notes"
    pid = pool.submit(inspect.note_at_exit, path).result(BOUND)
    if how != "recycling":
        getattr(pool, how)()
    processes.wait_gone(pid)
    assert sorted(tasks.notes(path)) == [(pid, "Finalize"), (pid, "atexit")]


@pytest.mark.parametrize("task", [inspect.fork_and_return, inspect.fork_and_raise])
def test_a_careless_fork_does_not_answer_in_the_workers_place(
    make_pool: MakePool, gate: Gate, start_method: str, task: Callable[[Gate], tuple[str, int]]
) -> None:
    pool = make_pool(1)
    for _ in range(3):
        who, child = pool.submit(task, gate).result(BOUND)
        assert who == "the parent"
        assert gate.arrived() == child
        # It ends by itself; its parent, a worker, has no reason to wait for it.
        until(lambda child=child: not processes.is_running(child), "the fork has ended")
        assert pool.submit(tasks.echo, "fine").result(BOUND) == "fine"


def test_death_is_known_though_a_grandchild_holds_everything(
    make_pool: MakePool, gate: Gate, start_method: str
) -> None:
    """In a session of its own, so that the kill of the group does not help."""
    pool = make_pool(1)
    future = pool.submit(tasks.leave_a_session_and_hold, gate)
    pid, grandchild = gate.arrived(), gate.arrived()
    os.kill(pid, signal.SIGKILL)
    error = outcome(future)
    assert isinstance(error, WorkerDied)
    assert error.exitcode == -signal.SIGKILL
    assert processes.is_running(grandchild)
    assert pool.submit(tasks.own_pid).result(BOUND) != pid
    processes.kill(grandchild)
    processes.wait_gone(grandchild)


EXIT_STATUS = """
    import os, signal, sys, threading
    from pathlib import Path
    from tests.helpers import faults, tasks
    from warmpool import WarmPool, WorkerDied

    def steal():
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                pass

    def main():
        method, what = sys.argv[1:]
        if what == "ignored":
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        if what == "stolen":
            threading.Thread(target=steal, daemon=True).start()
        pool = WarmPool(2, start_method=method)
        for name in ["exits_with_3", "dies_of_sigkill", "exits_with_0"] * 2:
            future = pool.submit(faults.perform, name)
            error = future.exception(20)
            assert type(error) is WorkerDied, repr(error)
            assert error.pid == future.info.pid and error.started
            expected = faults.FAULTS[name].exitcode
            assert error.exitcode in ((expected,) if what == "ordinary" else (expected, None))
            assert pool.submit(tasks.echo, 1).result(20) == 1
        pool.close(20)
        print("fine", flush=True)

    if __name__ == "__main__":
        main()
"""


@pytest.mark.parametrize("what", ["ordinary", "stolen", "ignored"])
def test_a_lost_exit_status_costs_the_status_only(
    run_host: RunHost, start_method: str, what: str
) -> None:
    """I5: somebody else may collect it, or the system drop it; the death is known all the same."""
    host = run_host(EXIT_STATUS, start_method, what)
    assert host.line() == "fine"
    assert host.wait() == 0
    assert "Traceback" not in host.stderr
    host.wait_deserted()
    assert host.temporary_files() == []


@pytest.mark.parametrize("fault", ["exits_with_3", "dies_of_sigkill"])
def test_an_exit_status_is_known_before_the_workers_parent_tells(
    make_pool: MakePool, gate: Gate, start_method: str, fault: str
) -> None:
    """It may be slow, or stopped, and the caller need not wait for it."""
    pool = make_pool(1)
    future = pool.submit(tasks.hold_and, gate, fault)
    parent = processes.parent(gate.arrived())
    assert parent is not None
    if parent != os.getpid():
        os.kill(parent, signal.SIGSTOP)
    try:
        gate.open()
        error = outcome(future)
    finally:
        if parent != os.getpid():
            os.kill(parent, signal.SIGCONT)
    assert isinstance(error, WorkerDied)
    assert error.exitcode == faults.FAULTS[fault].exitcode
