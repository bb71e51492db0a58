"""However the host ends, it takes its workers along and leaves nothing behind."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import processes, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.hosts import Host
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import TaskTimeout, WarmPool, WorkerDied

MakePool = Callable[..., WarmPool]
RunHost = Callable[..., Host]

# ------------------------------------------------------------------------------- interpreter exit

EXITS = """
    import os, sys, time
    from pathlib import Path
    from warmpool import WarmPool
    from tests.helpers import tasks, gate
    from tests.helpers.gate import Gate

    def idle(pool, evidence):
        pool.wait_warm(20)

    def never_warm(pool, evidence):
        pass

    def busy(pool, evidence):
        for number in range(4):
            pool.submit(tasks.note, evidence, number)

    def hanging(pool, evidence):
        place = Gate(evidence.with_name("gate"))
        pool.submit(gate.hold, place)
        pool.submit(tasks.note, evidence)
        place.arrived()

    def finishing_after_shutdown(pool, evidence):
        for number in range(10):
            pool.submit(tasks.note, evidence, number)
        pool.shutdown(wait=False)

    def several(pool, evidence):
        # The second ends while the first is waited for.
        pools = [pool, *(WarmPool(1, start_method=pool.start_method, grace=20) for _ in range(2))]
        for pool, seconds in zip(pools, (0.5, 0.0, 1.0)):
            pool.submit(tasks.sleep_and_note, evidence, seconds)
        kept.extend(pools)

    kept = []

    def sys_exit(pool, evidence):
        busy(pool, evidence)
        sys.exit(5)

    def unhandled(pool, evidence):
        busy(pool, evidence)
        raise ValueError("nobody catches this")

    def in_a_thread(pool, evidence):
        import threading
        thread = threading.Thread(target=busy, args=(pool, evidence))
        thread.start()

    def forgotten(pool, evidence):
        import gc
        busy(pool, evidence)
        del pool
        gc.collect()

    def fork_exits(pool, evidence):
        pool.submit(tasks.own_pid).result(20)
        for leave in (lambda: os._exit(0), lambda: sys.exit(0)):
            pid = os.fork()
            if pid == 0:
                leave()
            assert os.waitpid(pid, 0)[1] == 0
        # The pool is none the worse for it.
        pool.submit(tasks.note, evidence).result(20)

    if __name__ == "__main__":
        globals()[sys.argv[1]](
            WarmPool(2, start_method=sys.argv[2], grace=float(sys.argv[4])), Path(sys.argv[3])
        )
"""


@pytest.mark.parametrize(
    ("scenario", "status", "notes"),
    [
        ("idle", 0, 0),
        ("never_warm", 0, 0),
        ("busy", 0, 4),
        ("hanging", 0, None),
        ("finishing_after_shutdown", 0, 10),
        ("several", 0, 3),
        ("sys_exit", 5, 4),
        ("unhandled", 1, 4),
        ("in_a_thread", 0, 4),
        ("forgotten", 0, 4),
        ("fork_exits", 0, 1),
    ],
)
def test_the_interpreters_end_is_the_pools(
    run_host: RunHost,
    start_method: str,
    tmp_path: Path,
    scenario: str,
    status: int,
    notes: int | None,
) -> None:
    grace = 0.3 if scenario == "hanging" else BOUND
    evidence = tmp_path / "evidence"
    host = run_host(EXITS, scenario, start_method, evidence, grace)
    assert host.wait() == status
    host.wait_deserted()
    if notes is not None:
        assert len(tasks.notes(evidence)) == notes
    if scenario == "unhandled":
        assert "ValueError: nobody catches this" in host.stderr
    else:
        assert host.stderr == ""
    assert host.temporary_files() == []


# ------------------------------------------------------------------------------- SIGKILL

KILLED = """
    import sys
    from pathlib import Path
    from warmpool import WarmPool
    from tests.helpers import faults, gate, tasks
    from tests.helpers.gate import Gate

    def hang(place):
        place.announce()
        faults.hangs_asleep()

    if __name__ == "__main__":
        method, what, path = sys.argv[1:]
        place = Gate(Path(path))
        if what == "initializing":
            pool = WarmPool(2, start_method=method, initializer=hang, initargs=(place,))
        else:
            pool = WarmPool(2, start_method=method)
        if what == "busy":
            for _ in range(2):
                pool.submit(hang, place)
        if what in ("busy", "initializing"):
            pids = [place.arrived(), place.arrived()]
        else:
            pool.wait_warm(20)
            pids = []
        print(*pids, flush=True)
        sys.stdin.read()
"""


@pytest.mark.parametrize("what", ["idle", "busy", "initializing"])
def test_workers_do_not_outlive_a_killed_host(
    run_host: RunHost, start_method: str, tmp_path: Path, what: str
) -> None:
    host = run_host(KILLED, start_method, what, tmp_path / "gate")
    host.line()
    # The host, two workers, the resource tracker, and a fork server if there is one.
    assert len(host.members()) >= 4
    host.kill()
    host.wait_deserted()


KILLED_AS_IT_IS_IMPORTED = """
    import multiprocessing, os, sys
    from multiprocessing import spawn
    from pathlib import Path
    from warmpool import WarmPool
    from tests.helpers.gate import Gate

    real = spawn.get_preparation_data

    def with_main_path(name):
        # From 3.12.8 on a fork server is told where the main module is.
        return real(name) | ({"main_path": __file__} if name == "ignore" else {})

    if __name__ == "__mp_main__":
        # A worker, or its server, imports the main module.
        Gate.at(Path(os.environ["WARMPOOL_TEST_GATE"])).hold()

    if __name__ == "__main__":
        method, what, os.environ["WARMPOOL_TEST_GATE"] = sys.argv[1:]
        if what == "main":
            spawn.get_preparation_data = with_main_path
        else:
            # In the folder where its server will be started.
            held = Path(__file__).read_text().replace('"__mp_main__"', '"held"')
            Path("held.py").write_text(held)
            multiprocessing.set_forkserver_preload(["held"])
        pool = WarmPool(1, start_method=method)
        sys.stdin.read()
"""


@pytest.mark.parametrize("what", ["main", "module"])
def test_nobody_who_hangs_in_an_import_outlives_a_killed_host(
    run_host: RunHost, start_method: str, gate: Gate, what: str
) -> None:
    """A fork server looks for its host's end when its imports are done, which may be never."""
    if start_method == "fork" or (what == "module" and start_method != "forkserver"):
        pytest.skip("it imports nothing")
    host = run_host(KILLED_AS_IT_IS_IMPORTED, start_method, what, gate.path)
    assert gate.arrived() in host.members()
    host.kill()
    host.wait_deserted()


def test_a_stopped_server_does_not_outlive_a_killed_host(
    run_host: RunHost, start_method: str, tmp_path: Path
) -> None:
    """Nobody is left who would have it go on."""
    if start_method == "spawn":
        pytest.skip("it has no server")
    host = run_host(KILLED, start_method, "idle", tmp_path / "gate")
    host.line()
    trackers = {pid for pid in host.members() if "resource_tracker" in processes.command_line(pid)}
    (server,) = set(processes.children(host.pid)) - trackers
    processes.kill(server, signal.SIGSTOP)
    until(lambda: processes.state(server) == "T", "it is stopped")
    host.kill()
    host.wait_deserted()


STOPPED_AT_BIRTH = """
    import os, signal, sys
    from multiprocessing import util
    from tests.helpers import processes
    from tests.helpers.waiting import until
    from warmpool import WarmPool

    real = util.spawnv_passfds

    def start_and_stop(*args):
        pid = real(*args)
        os.kill(pid, signal.SIGSTOP)
        return pid

    if __name__ == "__main__":
        from multiprocessing import resource_tracker
        resource_tracker.ensure_running()
        util.spawnv_passfds = start_and_stop
        pool = WarmPool(1, start_method=sys.argv[1])
        own = resource_tracker._resource_tracker._pid
        stopped = lambda: [pid for pid in processes.children(os.getpid())
                           if pid != own and processes.state(pid) == "T"]
        print(until(stopped, "it is stopped")[0], flush=True)
        sys.stdin.read()
"""


def test_an_interpreter_that_was_stopped_at_its_start_does_not_outlive_a_killed_host(
    run_host: RunHost, start_method: str
) -> None:
    """Before any line of ours could run in it."""
    if start_method == "fork":
        pytest.skip("it starts none")
    host = run_host(STOPPED_AT_BIRTH, start_method)
    assert int(host.line()) in host.members()
    host.kill()
    host.wait_deserted()


WORKER_STOPPED_AT_BIRTH = """
    import multiprocessing, os, signal, sys
    from pathlib import Path

    def stop():
        os.kill(os.getpid(), signal.SIGSTOP)

    def stop_copies():
        os.register_at_fork(after_in_child=stop)

    def be_a_host(method):
        from tests.helpers import processes
        from tests.helpers.waiting import until
        from warmpool import WarmPool
        host, preload = os.getpid(), None
        if method == "fork":
            # Not its zygote.
            os.register_at_fork(after_in_child=lambda: os.getppid() == host or stop())
        elif method == "forkserver":
            # In the folder where its server will be started.
            Path("stopping.py").write_text(
                "import os, signal\\n"
                "os.register_at_fork("
                "after_in_child=lambda: os.kill(os.getpid(), signal.SIGSTOP))"
            )
            multiprocessing.set_forkserver_preload(["stopping"])
        else:
            preload = stop_copies
        pool = WarmPool(1, start_method=method, preload=preload)

        def stopped():
            own = processes.session_members(os.getsid(0))
            return [pid for pid in own if processes.state(pid) == "T"]

        worker = until(stopped, "it is stopped")[0]
        # A moment after its birth: it is tied once its host has heard of its pid.
        until(lambda: [one.pid for one in pool.stats().details if one.pid], "it is heard of")
        print(os.getpid(), worker, flush=True)
        sys.stdin.read()

    if __name__ == "__main__":
        from tests.helpers import processes

        processes.inherit_orphans()
        if os.fork() == 0:
            be_a_host(sys.argv[1])
        os.wait()
        sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signals for descriptors")
def test_a_worker_that_was_stopped_at_its_birth_does_not_outlive_a_killed_host(
    run_host: RunHost, start_method: str
) -> None:
    """Nor where its new parent is of the same session, as in a container.

    Else the kernel has stopped processes of some groups go on.
    """
    if start_method == "spawn":
        pytest.skip("it is an interpreter, as above")
    top = run_host(WORKER_STOPPED_AT_BIRTH, start_method)
    host, worker = top.numbers()
    processes.kill(host)
    processes.wait_gone(worker)
    until(lambda: set(top.members()) <= {top.pid}, "nobody else is left")


# ------------------------------------------------------------------------------- Ctrl-C

INTERRUPTED = """
    import select, sys
    from pathlib import Path
    from warmpool import WarmPool
    from tests.helpers import gate, tasks
    from tests.helpers.gate import Gate

    if __name__ == "__mp_main__":
        # A worker, or its server, imports the main module.
        Gate.at(Path(sys.argv[2] + "-of-imports")).hold()

    def main():
        method, path, when = sys.argv[1:]
        place, imports = Gate(Path(path)), Gate(Path(path + "-of-imports"))
        if when != "starting":
            imports.open(100)
        initializer = (place.hold, ()) if when == "initializing" else (None, ())
        pool = WarmPool(2, None, *initializer, start_method=method)
        futures = []
        try:
            if when == "busy":
                futures = [pool.submit(gate.hold, place, "unharmed") for _ in range(2)]
                place.arrived(), place.arrived()
            elif when == "idle":
                pool.wait_warm(20)
            else:
                futures = [pool.submit(tasks.echo, "unharmed") for _ in range(2)]
                (imports if when == "starting" else place).arrived()
            print("ready", flush=True)
            while True:
                # Not one long read: a signal that comes just before the system call, and after
                # the interpreter has looked for signals, does not end that.
                select.select([sys.stdin], [], [], 0.1)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        place.open(100)
        imports.open(100)
        pool.wait_warm(20)
        print(*[future.result(20) for future in futures], flush=True)
        stats = pool.stats()
        print(stats.workers_started, stats.workers_failed, flush=True)
        pool.shutdown()

    if __name__ == "__main__":
        main()
"""


@pytest.mark.parametrize("when", ["starting", "initializing", "idle", "busy"])
def test_ctrl_c_reaches_the_host_alone(
    run_host: RunHost, start_method: str, tmp_path: Path, when: str
) -> None:
    if when == "starting" and start_method == "fork":
        pytest.skip("a fork imports nothing")
    host = run_host(INTERRUPTED, start_method, tmp_path / "gate", when)
    assert host.line() == "ready"
    host.signal(signal.SIGINT)
    assert host.line() == "interrupted"
    assert host.line() == ("" if when == "idle" else "unharmed unharmed")
    assert host.numbers() == [2, 0]
    assert host.wait() == 0
    assert host.stderr == ""
    host.wait_deserted()


# ------------------------------------------------------------------------------- a forgotten pool


def test_a_forgotten_pool_finishes_what_it_has_and_ends(
    start_method: str, tmp_path: Path, gate: Gate
) -> None:
    pool = WarmPool(1, start_method=start_method)
    first = pool.submit(hold, gate)
    rest = [pool.submit(tasks.note, tmp_path / "notes") for _ in range(3)]
    pid = gate.arrived()
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    gate.open()
    assert outcome(first) is None
    assert {future.result(BOUND) for future in rest} == {pid}
    processes.wait_gone(pid)


def test_a_pool_in_a_circle_of_references_is_forgotten_too(start_method: str) -> None:
    pool = WarmPool(1, start_method=start_method)
    pid = pool.submit(tasks.own_pid).result(BOUND)
    pool.itself = pool  # type: ignore[attr-defined]
    del pool
    gc.collect()
    processes.wait_gone(pid)


# ------------------------------------------------------------------------------- the group


@pytest.mark.parametrize("fate", ["killed", "times out", "closed", "exits", "dies"])
def test_what_a_worker_started_goes_with_it(
    make_pool: MakePool, gate: Gate, start_method: str, fate: str
) -> None:
    pool = make_pool(1, grace=0.2)
    limited = pool.options(timeout=1.0 if fate == "times out" else None)
    fault = "exits_with_3" if fate == "exits" else "hangs_deaf_to_signals"
    future = limited.submit(tasks.start_a_program_and, gate, fault)
    pid, program = gate.arrived(), gate.arrived()
    if fate == "killed":
        assert future.kill()
    elif fate == "closed":
        pool.close()
    elif fate == "dies":
        os.kill(pid, signal.SIGKILL)
    error = outcome(future)
    if fate in ("killed", "exits", "dies"):
        assert isinstance(error, WorkerDied)
    elif fate == "times out":
        assert isinstance(error, TaskTimeout)
    processes.wait_gone(program)
    processes.wait_gone(pid)


def test_what_made_a_session_of_its_own_is_let_go(
    make_pool: MakePool, gate: Gate, start_method: str
) -> None:
    """By design: ``setsid`` is how a program says that it means to stay."""
    pool = make_pool(1)
    future = pool.submit(tasks.start_a_program_and, gate, "hangs_asleep", new_session=True)
    pid, program = gate.arrived(), gate.arrived()
    assert future.kill()
    assert isinstance(outcome(future), WorkerDied)
    processes.wait_gone(pid)
    assert processes.is_running(program)
    processes.kill(program)
    processes.wait_gone(program)


def test_a_program_of_a_worker_that_left_in_order_goes_too(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(1)
    program = pool.submit(tasks.start_a_program).result(BOUND)
    assert processes.is_running(program)
    pool.close()
    processes.wait_gone(program)


def test_threads_of_the_pool_end_with_it(make_pool: MakePool, start_method: str) -> None:
    before = threading.active_count()
    pool = make_pool(2)
    pool.submit(tasks.own_pid).result(BOUND)
    assert threading.active_count() > before
    pool.close()
    until(lambda: threading.active_count() == before, "the pool's threads have ended", 1)
