"""Workers under ``fork`` come from one copy of the host, whatever the host is doing just then."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import importlib
import io
import logging
import multiprocessing
import os
import resource
import select
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

import pytest

from tests.helpers import faults, inspect, policies, processes, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.hosts import Host
from tests.helpers.replacing import replace
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import WarmPool, WorkerDied, forkguard, mending, servers

MakePool = Callable[..., WarmPool]
RunHost = Callable[..., Host]


pytestmark = pytest.mark.usefixtures("start_method")


@pytest.fixture(scope="module")
def start_method() -> str:
    """Of all pools that are made here."""
    return "fork"


def zygote_of(worker: int) -> int:
    """The process that has forked this worker."""
    found = processes.parent(worker)
    assert found is not None
    assert processes.parent(found) == os.getpid()
    return found


@pytest.fixture
def once_waited_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Have something done as soon as a copy of the host is seen to wait for other threads."""

    def prepare(act: Callable[[], object]) -> None:
        real, acts = forkguard.is_quiet, [act]

        def look() -> bool:
            quiet = real()
            if not quiet and acts:
                acts.pop()()
            return quiet

        monkeypatch.setattr(forkguard, "is_quiet", look)
        monkeypatch.setattr(forkguard, "QUIET_PATIENCE", BOUND)

    return prepare


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have copies of the host wait for nobody."""
    monkeypatch.setattr(forkguard, "QUIET_PATIENCE", 0.0)


# ------------------------------------------------------------------------------- imports


MODULE = """
import os
from pathlib import Path
from tests.helpers.gate import Gate

IMPORTED_BY = os.getpid()
if os.getpid() == {host}:
    Gate.at(Path({gate!r})).hold()

def answer():
    return 42
"""


class Importer:
    """A thread that is in the middle of importing a module."""

    def __init__(self, folder: Path, gate: Gate) -> None:
        self.name = "half_imported"
        self._gate = gate
        text = MODULE.format(host=os.getpid(), gate=str(gate.path))
        (folder / f"{self.name}.py").write_text(text)
        self._thread = threading.Thread(target=importlib.import_module, args=(self.name,))

    def begin(self) -> None:
        self._thread.start()
        self._gate.arrived()
        assert mending.others_import()

    def finish(self) -> None:
        self._gate.open()
        self._thread.join(BOUND)


@pytest.fixture
def importer(
    tmp_path: Path, make_gate: Callable[[], Gate], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Importer]:
    monkeypatch.syspath_prepend(tmp_path)
    importer = Importer(tmp_path, make_gate())
    yield importer
    importer.finish()
    assert sys.modules.pop(importer.name).answer() == 42


def use(module: str) -> tuple[Any, int]:
    """Import a module, and tell its answer and who has imported it."""
    imported = importlib.import_module(module)
    return imported.answer(), imported.IMPORTED_BY


@pytest.mark.usefixtures("impatient")
def test_a_module_that_a_thread_is_importing_hangs_no_worker(
    make_pool: MakePool, importer: Importer
) -> None:
    importer.begin()
    pool = make_pool(1)
    assert pool.submit(tasks.echo, 1).result(BOUND) == 1
    # Half of it is of no use to a worker: it makes its own.
    pid = pool.submit(tasks.own_pid).result(BOUND)
    assert pool.submit(use, importer.name).result(BOUND) == (42, pid)


@pytest.mark.usefixtures("impatient")
def test_a_module_that_a_thread_is_importing_hangs_no_replacement(
    make_pool: MakePool, importer: Importer
) -> None:
    pool = make_pool(1)
    pid = pool.submit(tasks.own_pid).result(BOUND)
    importer.begin()
    # Of the copy that was made before.
    pid = replace(pool, pid)
    assert pool.submit(use, importer.name).result(BOUND) == (42, pid)
    # Of a copy that is made now.
    zygote = zygote_of(pid)
    os.kill(zygote, signal.SIGKILL)
    processes.wait_gone(zygote)
    pid = replace(pool, pid)
    assert pool.submit(use, importer.name).result(BOUND) == (42, pid)


def test_an_import_is_waited_for(
    make_pool: MakePool,
    importer: Importer,
    once_waited_for: Callable[[Callable[[], object]], None],
) -> None:
    importer.begin()
    once_waited_for(importer.finish)
    pool = make_pool(1)
    assert pool.submit(use, importer.name).result(BOUND) == (42, os.getpid())


MAKES_A_POOL = """
import threading
from warmpool import WarmPool

def above():
    return "above"

def in_a_thread():
    seen = []
    def look():
        import makes_a_pool
        seen.append(makes_a_pool.above())
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(20)
    return seen

POOL = WarmPool(1, start_method="fork")
FIRST = POOL.submit(in_a_thread).result(20)
"""


def test_a_pool_may_be_made_while_its_module_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "makes_a_pool.py").write_text(MAKES_A_POOL)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("makes_a_pool")
    try:
        assert module.FIRST == ["above"]
        assert module.POOL.submit(module.above).result(BOUND) == "above"
    finally:
        module.POOL.close()
        del sys.modules["makes_a_pool"]


# ------------------------------------------------------------------------------- programs


class Starting:
    """A thread that is in the middle of starting a program that copies its input to its output."""

    def __init__(self, gate: Gate, *, stdin: int = subprocess.DEVNULL) -> None:
        self._gate = gate
        self._stdin = stdin
        self._threads = ThreadPoolExecutor(1)
        self.started: Future[subprocess.Popen[bytes]] = Future()

    def begin(self) -> None:
        self.started = self._threads.submit(
            subprocess.Popen,
            ["cat"],
            stdin=self._stdin,
            stdout=subprocess.PIPE,
            preexec_fn=self._gate.hold,
        )
        self._gate.arrived()

    def go_on(self) -> None:
        self._gate.open()
        self.started.result(BOUND)

    def communicate(self) -> bytes:
        """What comes of it: the ends of input and output come when nobody else has the pipes."""
        given = b"all of it" if self._stdin == subprocess.PIPE else None
        with self.started.result(BOUND) as program:
            try:
                return program.communicate(given, BOUND)[0]
            finally:
                program.kill()
                self._threads.shutdown()


def test_a_program_that_a_thread_starts_is_waited_for(
    make_pool: MakePool,
    gate: Gate,
    once_waited_for: Callable[[Callable[[], object]], None],
) -> None:
    program = Starting(gate)
    program.begin()
    once_waited_for(program.go_on)
    pool = make_pool(1)
    pool.wait_warm(BOUND)
    assert program.communicate() == b""


def test_a_copy_that_a_starting_program_has_overtaken_is_made_again(
    make_pool: MakePool,
    gate: Gate,
    once_waited_for: Callable[[Callable[[], object]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program, real, copies = Starting(gate), os.fork, []

    def fork() -> int:
        if not copies:
            program.begin()
        copies.append(real())
        return copies[-1]

    monkeypatch.setattr(os, "fork", fork)
    once_waited_for(program.go_on)
    pool = make_pool(1)
    pool.wait_warm(BOUND)
    assert len(copies) == 2
    assert program.communicate() == b""


def test_a_worker_has_nothing_of_a_program_that_is_started_later(
    make_pool: MakePool, gate: Gate
) -> None:
    pool = make_pool(1)
    pid = pool.submit(tasks.own_pid).result(BOUND)
    program = Starting(gate, stdin=subprocess.PIPE)
    program.begin()
    # Started in the middle of it, and not held up.
    replace(pool, pid)
    program.go_on()
    assert program.communicate() == b"all of it"
    assert pool.submit(tasks.echo, 1).result(BOUND) == 1


# ------------------------------------------------------------------------------- streams


class Piped:
    """A pipe as this process's standard output."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        self.stream: TextIO = open(writing, "w", encoding="utf-8")  # noqa: SIM115

    def is_full(self) -> bool:
        return not select.select([], [self.stream], [], 0)[1]

    def read(self) -> str:
        """What has been written and not read; after a moment, if that is nothing."""
        # Not blocking: who has written the last of it may be heard of only later.
        if not select.select([self.reading], [], [], 0.01)[0]:
            return ""
        waiting = fcntl.ioctl(self.reading, termios.FIONREAD, b"\0" * 4)
        return os.read(self.reading, int.from_bytes(waiting, sys.byteorder)).decode()

    def close(self) -> None:
        self.stream.close()
        os.close(self.reading)


@pytest.fixture
def piped() -> Iterator[Piped]:
    piped = Piped()
    yield piped
    piped.close()


def say(text: str) -> None:
    print(text, flush=True)


def log(text: str) -> None:
    logging.getLogger("of the host").warning(text)


def test_a_thread_that_is_writing_hangs_no_worker(
    make_pool: MakePool, piped: Piped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", piped.stream)
    size = 1 << 20
    writer = threading.Thread(target=say, args=("x" * size,))
    handler = logging.StreamHandler(piped.stream)
    logging.getLogger("of the host").addHandler(handler)
    try:
        writer.start()
        until(piped.is_full, "the writer is stuck in the middle")
        pool = make_pool(1)
        assert pool.submit(tasks.echo, 1).result(BOUND) == 1
        # These write to the same pipe, each as a whole.
        said = [pool.submit(say, "said by a worker"), pool.submit(log, "logged by a worker")]
        read = ""
        while writer.is_alive() or not all(future.done() for future in said) or piped.is_full():
            read += piped.read()
        for future in said:
            future.result(BOUND)
        piped.stream.write("the end")
        piped.stream.flush()
        while not read.endswith("the end"):
            read += piped.read()
    finally:
        logging.getLogger("of the host").removeHandler(handler)
        writer.join(BOUND)
    # What the writer had in hand did not come out of the worker too.
    assert read.count("x") == size
    assert read.count("said by a worker\n") == 1
    assert read.count("logged by a worker\n") == 1


class Strange:
    """Some object for a standard output, with a buffer of its own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._kept: list[str] = []

    def write(self, text: str) -> int:
        self._kept.append(text)
        return len(text)

    def flush(self) -> None:
        while self._kept:
            self._stream.write(self._kept.pop(0))
        self._stream.flush()


@pytest.mark.parametrize("kind", ["plain", "strange", "closed", "none"])
def test_what_the_host_has_not_written_yet_comes_out_once(
    make_pool: MakePool, piped: Piped, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    stream: Any = piped.stream
    if kind == "strange":
        stream = Strange(piped.stream)
    elif kind == "closed":
        stream = io.TextIOWrapper(io.BytesIO())
        stream.close()
    elif kind == "none":
        stream = None
    monkeypatch.setattr(sys, "stdout", stream)
    if kind in ("plain", "strange"):
        print("unwritten", end="")
    pool = make_pool(2)
    assert outcome(pool.submit(tasks.echo, 1)) is None
    if kind in ("plain", "strange"):
        pool.submit(say, "said by a worker").result(BOUND)
        pool.close()
        stream.flush()
        read = piped.read()
        assert read.count("unwritten") == 1
        assert read.count("said by a worker") == 1


# ------------------------------------------------------------------------------- its death


def test_workers_and_tasks_outlive_their_zygote(
    make_pool: MakePool, make_gate: Callable[[], Gate]
) -> None:
    pool, gate = make_pool(2), make_gate()
    pool.wait_warm(BOUND)
    running = pool.submit(hold, gate, "unharmed")
    busy = gate.arrived()
    idle = pool.submit(tasks.own_pid).result(BOUND)
    zygote = zygote_of(busy)
    assert zygote_of(idle) == zygote
    os.kill(zygote, signal.SIGKILL)
    processes.wait_gone(zygote)
    assert pool.submit(tasks.own_pid).result(BOUND) == idle
    # Their deaths are still seen; their exit status the kernel may tell, for a moment.
    error = outcome(pool.submit(faults.exits_with_3))
    assert isinstance(error, WorkerDied)
    assert error.exitcode in (None, 3)
    # And replaced, out of a new zygote.
    replacement = pool.submit(tasks.own_pid).result(BOUND)
    assert replacement not in (idle, busy)
    assert zygote_of(replacement) != zygote
    gate.open()
    assert running.result(BOUND) == "unharmed"
    pool.wait_warm(BOUND)
    error = outcome(pool.submit(faults.exits_with_3))
    assert isinstance(error, WorkerDied)


def test_a_stopped_zygote_is_replaced_and_its_workers_go_on(
    make_pool: MakePool, gate: Gate
) -> None:
    with policies.use(policies.PATIENT):
        pool = make_pool(2, init_timeout=1.5)
    pool.wait_warm(BOUND)
    running = pool.submit(hold, gate, "unharmed")
    busy = gate.arrived()
    idle = pool.submit(tasks.own_pid).result(BOUND)
    zygote = zygote_of(busy)
    os.kill(zygote, signal.SIGSTOP)
    os.kill(idle, signal.SIGKILL)
    # The replacement cannot be had of that one.
    replacement = pool.submit(tasks.own_pid).result(BOUND)
    assert replacement not in (idle, busy)
    assert zygote_of(replacement) != zygote
    assert not processes.is_running(zygote)
    gate.open()
    assert running.result(BOUND) == "unharmed"


def test_close_ends_with_a_stopped_zygote(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(2, grace=0.3)
    pool.wait_warm(BOUND)
    running = pool.submit(hold, gate)
    zygote = zygote_of(gate.arrived())
    os.kill(zygote, signal.SIGSTOP)
    pool.close()
    assert running.done()
    assert not processes.is_running(zygote)


def test_a_zygote_without_descriptors_for_a_while_goes_on(make_pool: MakePool) -> None:
    with policies.use(policies.PATIENT):
        pool = make_pool(1)
    worker = pool.submit(tasks.own_pid).result(BOUND)
    zygote = zygote_of(worker)
    before = resource.prlimit(
        zygote, resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )
    os.kill(worker, signal.SIGKILL)
    until(lambda: pool.stats().workers_failed >= 3, "starts fail")
    resource.prlimit(zygote, resource.RLIMIT_NOFILE, before)
    assert zygote_of(pool.submit(tasks.own_pid).result(BOUND)) == zygote


SIGPIPE = """
    import os, signal, socket
    from warmpool import child, forking, zygote

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    dead = zygote.Zygote(child.Inherited())
    dead.process.kill()
    while not dead.process.has_died():
        pass
    data, _ = socket.socketpair()
    terms = child.Terms("of the test", (1.0, 1.0))
    process = forking.Process(dead, child.Endpoints(terms, 1, None, data), "a worker")
    try:
        dead.link.ask(process, [0])
    except BrokenPipeError:
        print("refused", flush=True)
    dead.end()
"""


def test_asking_a_dead_zygote_harms_no_host_that_dies_of_sigpipe(run_host: RunHost) -> None:
    host = run_host(SIGPIPE)
    assert host.line() == "refused"
    assert host.wait() == 0


def test_a_constructor_that_cannot_fork_leaves_it_to_the_first_start(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = os.fork, [BlockingIOError(errno.EAGAIN, "no process left")]

    def fork() -> int:
        if failures:
            raise failures.pop()
        return real()

    monkeypatch.setattr(os, "fork", fork)
    given = threading.Lock()
    pool = make_pool(1, initializer=lambda lock: lock.acquire(), initargs=(given,))
    assert not failures
    assert pool.submit(tasks.echo, 1).result(BOUND) == 1


KILLED = """
    import os, sys
    from warmpool import WarmPool
    from tests.helpers import processes, tasks

    pools = [WarmPool(1, start_method="fork") for _ in range(2)]
    workers = [pool.submit(tasks.own_pid).result() for pool in pools]
    zygotes = [processes.parent(worker) for worker in workers]
    if os.fork() == 0:
        print(*workers, *zygotes, os.getpid(), flush=True)
        sys.stdin.read()
        os._exit(0)
    os.waitpid(-1, 0)
"""


def test_zygotes_and_workers_end_with_a_killed_host_that_leaves_a_fork(run_host: RunHost) -> None:
    host = run_host(KILLED)
    *mortal, copy = host.numbers()
    assert len(set(mortal)) == 4
    host.kill()
    for pid in mortal:
        until(lambda pid=pid: not processes.is_running(pid), "it has ended")  # type: ignore[misc]
    assert processes.is_running(copy)


STOPPED = """
    import os, signal, sys, time

    where = sys.argv[1]

    def stop():
        os.kill(os.getpid(), signal.SIGSTOP)

    def prepare():
        if where == "at its birth":
            # Of hooks in a copy, the first that was set is the first to run.
            os.register_at_fork(after_in_child=stop)
        from warmpool import mending
        if where == "before its group":
            mending.mend = stop

    def stopped_child():
        from tests.helpers import processes
        from tests.helpers.waiting import until
        def look():
            return [pid for pid in processes.children(os.getpid()) if processes.state(pid) == "T"]
        return until(look, "it is stopped")[0]

    def be_a_host():
        prepare()
        from warmpool import WarmPool
        from tests.helpers import processes, tasks
        pool = WarmPool(1, start_method="fork")
        if where == "later":
            zygote = processes.parent(pool.submit(tasks.own_pid).result(20))
            os.kill(zygote, signal.SIGSTOP)
        print(os.getpid(), stopped_child(), flush=True)
        time.sleep(600)

    from tests.helpers import processes

    processes.inherit_orphans()
    if os.fork() == 0:
        be_a_host()
    os.wait()
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signals for descriptors")
@pytest.mark.parametrize("where", ["at its birth", "before its group", "later"])
def test_a_zygote_that_is_stopped_does_not_outlive_a_killed_host(
    run_host: RunHost, where: str
) -> None:
    """Its new parent is of the same session, as in a container, so the kernel lets it be stopped.

    (Else it has a stopped process go on whose group has lost its last tie to the session: that was
    to rely on only for one with a group of its own.)
    """
    top = run_host(STOPPED, where)
    host, zygote = top.numbers()
    processes.kill(host)
    processes.wait_gone(zygote)
    until(lambda: set(top.members()) <= {top.pid}, "nobody else is left")


def test_ending_a_server_that_may_not_be_killed_has_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    server = servers.ServerProcess(program.pid)

    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "not yours")

    with monkeypatch.context() as patch:
        patch.setattr(servers, "END_PATIENCE", 0.05)
        patch.setattr(signal, "pidfd_send_signal", refuse)
        server.kill()
        server.end()
    assert program.poll() is None
    with program:
        program.kill()


# ------------------------------------------------------------------------------- its nature


def test_a_zygote_is_out_of_the_way_of_signals(make_pool: MakePool) -> None:
    handlers = {
        number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        pool = make_pool(1)
        zygote = zygote_of(pool.submit(tasks.own_pid).result(BOUND))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert os.getpgid(zygote) == zygote
    assert signal.SIGINT in processes.signals(zygote, "SigIgn")
    # Its own way to hear of deaths is all that it catches, beside pytest's faulthandler.
    assert not {signal.SIGTERM, signal.SIGHUP} & processes.signals(zygote, "SigCgt")
    assert not {signal.SIGCHLD, signal.SIGINT} & processes.signals(zygote, "SigBlk")


def parentage() -> tuple[int, bool, int, str | None]:
    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid is not None
    method = multiprocessing.get_start_method(allow_none=True)
    return parent.pid, parent.is_alive(), len(multiprocessing.active_children()), method


def test_multiprocessing_takes_the_host_for_the_parent(make_pool: MakePool) -> None:
    before = set(multiprocessing.active_children())
    pool = make_pool(1)
    assert pool.submit(parentage).result(BOUND) == (os.getpid(), True, 0, "fork")
    (worker,) = set(multiprocessing.active_children()) - before
    assert worker.pid == pool.submit(tasks.own_pid).result(BOUND)


def run_a_loop() -> str:
    return asyncio.run(asyncio.sleep(0, "ran"))


def test_a_pool_may_be_made_inside_an_event_loop(make_pool: MakePool) -> None:
    async def make() -> str:
        pool = make_pool(1)
        return await asyncio.get_running_loop().run_in_executor(pool, run_a_loop)

    assert asyncio.run(make()) == "ran"


_state = {"host": "as it was"}


def state() -> str:
    return _state["host"]


def test_every_worker_is_as_the_host_was_in_the_constructor(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(1)
    monkeypatch.setitem(_state, "host", "as it is")
    assert pool.submit(state).result(BOUND) == "as it was"
    replace(pool, pool.submit(tasks.own_pid).result(BOUND))
    assert pool.submit(state).result(BOUND) == "as it was"


WITHOUT_PIDFDS = """
    import os, sys
    from tests.helpers import tasks
    from warmpool import TaskTimeout, WarmPool

    del os.pidfd_open

    if __name__ == "__main__":
        for method in ("fork", "forkserver", "spawn", "template"):
            with WarmPool(1, start_method=method) as pool:
                pool.wait_warm(20)
                hung = pool.options(timeout=0.1).submit(tasks.hang_in_c_with_the_gil)
                assert isinstance(hung.exception(20), TaskTimeout)
                os.kill(pool.submit(tasks.own_pid).result(20), 9)
                print(method, pool.submit(tasks.echo, "served").result(20), flush=True)
"""


def test_workers_of_servers_are_killed_where_there_are_no_pidfds(run_host: RunHost) -> None:
    host = run_host(WITHOUT_PIDFDS)
    for method in ("fork", "forkserver", "spawn", "template"):
        assert host.line() == f"{method} served"
    assert host.wait() == 0
    host.wait_deserted()


def test_a_pool_may_be_made_on_a_thread_that_ends(
    make_pool: MakePool, capfd: pytest.CaptureFixture[str]
) -> None:
    with ThreadPoolExecutor(1) as threads:
        pool = threads.submit(make_pool, 1).result(BOUND)
    seen = pool.submit(inspect.describe).result(BOUND)
    assert seen["main thread"] is True
    assert seen["threads"] == ["MainThread"]
    assert seen["new threads are daemonic"] is False
    assert replace(pool, seen["pid"]) != seen["pid"]
    pool.shutdown()
    assert capfd.readouterr().err.count("Traceback") == 0, "a worker fails as it leaves"
