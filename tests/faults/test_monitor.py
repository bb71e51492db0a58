"""Pools as ``warmpool top`` sees them: live, stopped, dead; and nobody else does."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.gate import Gate, hold
from tests.helpers.hosts import Host
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import WarmPool, billboard, birth, watching
from warmpool.watching import Published

MakePool = Callable[..., WarmPool]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    return runtime / "warmpool"


def seen(condition: Callable[[Published], Any], what: str) -> Published:
    """Wait until there is one published pool of which this is true."""

    def find() -> Published | None:
        found = watching.look()
        return found[0] if len(found) == 1 and condition(found[0]) else None

    published = until(find, what)
    assert published is not None
    return published


def test_a_live_pool_is_seen_by_its_owner_alone(
    make_pool: MakePool, start_method: str, gate: Gate, folder: Path
) -> None:
    pool = make_pool(2, name="painters", monitor=True)
    future = pool.submit(hold, gate)
    pid = gate.arrived()
    published = seen(lambda p: p.facts["workers"] == {"busy": 1, "idle": 1}, "one is busy")
    assert published.host is watching.Host.LIVE
    assert (published.facts["pool"], published.facts["pid"]) == ("painters", os.getpid())
    (busy,) = [worker for worker in published.facts["details"] if worker["task"] is not None]
    assert (busy["pid"], busy["task"], busy["task_name"]) == (pid, 1, "hold")
    assert published.processes[pid].memory > 1 << 20
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    gate.open()
    assert outcome(future) is None
    pool.close()
    assert not list(folder.iterdir())


HOST = """
    import os, sys
    from warmpool import WarmPool
    from tests.helpers import tasks

    def main(method):
        with WarmPool(1, start_method=method, name="painters", monitor=True) as pool:
            print(pool.submit(tasks.own_pid).result(), flush=True)
            sys.stdin.readline()

    if __name__ == "__main__":
        main(*sys.argv[1:])
"""


def test_a_host_that_hangs_and_one_that_died_are_shown_as_they_last_were(
    run_host: Callable[..., Host], start_method: str, folder: Path
) -> None:
    host = run_host(HOST, start_method)
    worker = int(host.line())
    seen(lambda p: p.facts["workers"] == {"idle": 1}, "it is published")
    os.kill(host.pid, signal.SIGSTOP)
    stopped = seen(lambda p: p.host is watching.Host.STOPPED, "it is stopped")
    assert stopped.facts["details"][0]["pid"] == worker
    assert stopped.processes[worker].memory > 0
    host.kill()
    gone = seen(lambda p: p.host is watching.Host.GONE, "it is gone")
    assert gone.facts["details"][0]["pid"] == worker
    assert gone.processes == {}
    (file,) = folder.glob("*.json")
    # After the machine's next start its clock has not come that far: the time of day tells.
    restarted = json.loads(file.read_text()) | {"at": 1e15}
    file.write_text(json.dumps(restarted))
    seen(lambda p: p.host is watching.Host.GONE and p.age < 3600, "it is still shown")
    old = restarted | {"time": restarted["time"] - 2 * watching.FORGOTTEN_AFTER}
    file.write_text(json.dumps(old))
    assert watching.look() == []
    assert not file.exists()


@pytest.mark.parametrize("what", ["open to others", "a link", "a file"])
def test_a_folder_that_is_not_the_owners_alone_is_refused(
    make_pool: MakePool,
    folder: Path,
    what: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if what == "open to others":
        folder.mkdir()
        folder.chmod(0o755)
    elif what == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.touch()
    with caplog.at_level(logging.WARNING, "warmpool"):
        pool = make_pool(1, start_method="fork", monitor=True)
        assert pool.submit(len, "abc").result(BOUND) == 3
        until(lambda: "cannot be seen by warmpool top" in caplog.text, "it is told of")
    with pytest.raises(PermissionError):
        watching.look()
    pool.close()
    assert not list((tmp_path / "elsewhere").glob("*"))


def test_a_forked_copy_of_the_host_publishes_and_removes_nothing(
    make_pool: MakePool, folder: Path
) -> None:
    pool = make_pool(1, start_method="fork", monitor=True)
    seen(lambda p: p.facts["pid"] == os.getpid(), "it is published")
    code = os.fork()
    if code == 0:
        pool.close()
        os._exit(0)
    os.waitpid(code, 0)
    assert len(list(folder.glob("*.json"))) == 1


def test_a_host_that_hangs_with_the_gil_is_silent(
    run_host: Callable[..., Host], folder: Path
) -> None:
    host = run_host(
        """
        import sys
        from warmpool import WarmPool
        from tests.helpers import tasks

        if __name__ == "__main__":
            with WarmPool(1, name="painters", monitor=True) as pool:
                print(pool.submit(tasks.own_pid).result(), flush=True)
                sys.stdin.readline()
                tasks.hang_in_a_regular_expression()
        """
    )
    worker = int(host.line())
    seen(lambda p: p.facts["workers"] == {"idle": 1}, "it is published")
    host.say()
    silent = seen(lambda p: p.host is watching.Host.SILENT, "it says nothing")
    assert silent.age > watching.SILENT_AFTER
    assert silent.processes[worker].memory > 0


def test_a_worker_that_is_stopped_is_shown_as_that(make_pool: MakePool) -> None:
    pool = make_pool(1, monitor=True)
    pid = pool.submit(os.getpid).result(BOUND)
    os.kill(pid, signal.SIGSTOP)
    seen(lambda p: pid in p.processes and p.processes[pid].status == "stopped", "it is stopped")
    os.kill(pid, signal.SIGCONT)


def test_pools_of_one_name_are_told_apart(make_pool: MakePool, folder: Path) -> None:
    for _ in range(2):
        make_pool(1, start_method="fork", name="painters", monitor=True)
    until(lambda: len(watching.look()) == 2, "both are published")


def test_hosts_that_were_started_in_different_ways_are_all_seen(
    make_pool: MakePool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = [make_pool(1, start_method="fork", name="of a login", monitor=True)]
    until(lambda: len(watching.look()) == 1, "it is published")
    # The user logs out, the folder goes, and the host is left.
    runtime = str(folder.parent)
    monkeypatch.setenv("XDG_RUNTIME_DIR", f"{runtime}/gone")
    pools.append(make_pool(1, start_method="fork", name="of a timer", monitor=True))
    until(lambda: not list(folder.iterdir()), "the first one has moved")
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    until(lambda: len(watching.look()) == 2, "both are published")
    for pool in pools:
        pool.close(BOUND)
    for place in billboard.places():
        place.rmdir()


def test_a_zombie_has_ended() -> None:
    own = birth.born(os.getpid())
    assert own is not None
    assert own == birth.born(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert birth.born(child.pid) is None
    child.wait()
    assert birth.born(child.pid) is None


def test_a_draft_is_removed_when_its_host_can_have_no_use_for_it(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    for name in ("old.json.new", "new.json.new"):
        (folder / name).touch()
    os.utime(folder / "old.json.new", (0, 0))
    assert watching.look() == []
    assert [path.name for path in folder.iterdir()] == ["new.json.new"]


def test_a_pool_that_ends_while_there_is_no_descriptor_left_removes_its_file(
    make_pool: MakePool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    pool = make_pool(1, start_method="fork", monitor=True)
    until(lambda: watching.look(), "it is published")
    monkeypatch.setattr("warmpool.publishing.billboard.opened", refuse)
    pool.close(BOUND)
    until(lambda: not list(folder.iterdir()), "the file is gone", 5)


def test_a_finalizer_on_the_publishers_thread_may_wait_for_the_end(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(1, start_method="fork", monitor=True)
    closed: list[str] = []

    def finalize(*_: Any) -> list[Path]:
        # As the garbage collector may run one, at any line of that thread.
        pool.close(BOUND)
        closed.append(threading.current_thread().name)
        return []

    monkeypatch.setattr("warmpool.publishing.billboard.places", finalize)
    until(lambda: closed, "the pool is closed")
    assert closed == [f"{pool.name}-publisher"]
    monkeypatch.undo()
