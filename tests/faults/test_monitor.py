"""Pools as ``warmpool top`` sees them: live, stopped, dead; and nobody else does."""

from __future__ import annotations

import json
import logging
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.gate import Gate, hold
from tests.helpers.hosts import Host
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import WarmPool, watching
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
    assert published.memory[pid] > 1 << 20
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
    assert stopped.memory[worker] > 0
    host.kill()
    gone = seen(lambda p: p.host is watching.Host.GONE, "it is gone")
    assert gone.facts["details"][0]["pid"] == worker
    assert gone.memory == {}
    (file,) = folder.glob("*.json")
    old = json.loads(file.read_text()) | {"at": 1e15}
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


def _top(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "warmpool", "top", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND,
        **options,
    )


def test_one_look_on_the_command_line(make_pool: MakePool, folder: Path) -> None:
    assert "monitor=True" in _top("--once").stdout
    pool = make_pool(1, start_method="fork", name="painters", monitor=True)
    seen(lambda p: p.facts["workers"] == {"idle": 1}, "it is published")
    text = _top("--once")
    assert text.returncode == 0
    assert f"painters  READY  pid {os.getpid()} live  fork  1 of 1 workers" in text.stdout
    (document,) = json.loads(_top("--json").stdout)
    assert document["pool"] == pool.name
    assert document["host"] == "live"


def test_what_the_live_view_needs_is_said() -> None:
    completed = _top(stdin=subprocess.DEVNULL)
    assert completed.returncode == 2
    assert "--once" in completed.stderr
    assert "Traceback" not in completed.stderr
    assert _top("--interval", "0").returncode == 2


@pytest.mark.parametrize("leave", ["q", "ctrl-c"])
def test_the_live_view_on_a_terminal(make_pool: MakePool, leave: str) -> None:
    pool = make_pool(1, start_method="fork", name="painters", monitor=True)
    seen(lambda p: p.facts["workers"] == {"idle": 1}, "it is published")
    controller, device = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "warmpool", "top", "--interval", "0.1"],
        stdin=device,
        stdout=device,
        stderr=device,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
        start_new_session=True,
    )
    os.close(device)
    shown = b""
    while b"painters" not in shown:
        shown += os.read(controller, 65536)
    if leave == "q":
        os.write(controller, b"q")
    else:
        process.send_signal(signal.SIGINT)
    try:
        while chunk := os.read(controller, 65536):
            shown += chunk
    except OSError:  # EIO: nobody has the device open any more.
        pass
    os.close(controller)
    assert process.wait(BOUND) == 0
    assert shown.rindex(b"\x1b[?1049l") > shown.rindex(b"\x1b[?1049h"), "the screen is back"
    assert b"Traceback" not in shown
    assert pool.available
