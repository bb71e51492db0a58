"""``warmpool top`` on the command line and on a terminal."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import processes
from tests.helpers.waiting import BOUND, until
from warmpool import WarmPool, birth, publishing, watching

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "warmpool").mkdir(mode=0o700)
    return tmp_path / "warmpool"


@pytest.fixture
def publish(folder: Path) -> Callable[..., None]:
    """Publish pools of this process that do not exist."""

    def publish(*names: str) -> None:
        for number, name in enumerate(names):
            facts = {
                "format": publishing.FORMAT,
                "pool": name,
                "pid": os.getpid(),
                "born": birth.born(os.getpid()),
                "at": time.monotonic(),
                "time": time.time(),
                "rate": None,
                "start_method": "spawn",
                "max_workers": 1,
                "health": "ready",
                "workers": {},
                "queued": 0,
                "running": 0,
                "tasks_settled": {},
                "worker_exits": {},
                "cold_starts": 0,
                "details": [],
            }
            (folder / f"{number}.json").write_text(json.dumps(facts))

    return publish


def top(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    defaults = {"capture_output": True, "text": True, "check": False, "timeout": BOUND}
    return subprocess.run(
        [sys.executable, "-m", "warmpool", "top", *arguments], **{**defaults, **options}
    )


# ---------------------------------------------------------------------------- one look


def test_one_look(folder: Path) -> None:
    assert "monitor=True" in top("--once").stdout
    assert json.loads(top("--json").stdout) == []
    with WarmPool(1, start_method="fork", name="painters", monitor=True) as pool:
        until(lambda: [p for p in watching.look() if p.facts["workers"] == {"idle": 1}], "warm")
        completed = top("--once")
        assert completed.returncode == 0
        assert f"painters  READY  pid {os.getpid()} live  fork  1 of 1 workers" in completed.stdout
        assert "\x1b" not in completed.stdout
        (document,) = json.loads(top("--json").stdout)
        worker = str(document["details"][0]["pid"])
        assert (document["pool"], document["host"]) == (pool.name, "live")
        assert document["memory"][worker] > 0
        assert document["status"][worker] == "sleeping"
    assert not list(folder.iterdir())


def test_one_look_needs_no_rich(publish: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError('not installed')\n")
    publish("painters")
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), root])}
    assert "painters" in top("--once", env=environment).stdout
    completed = top(env=environment)
    assert completed.returncode == 2
    assert "warmpool-executor[cli]" in completed.stderr
    assert "Traceback" not in completed.stderr


def test_a_folder_that_is_not_to_be_believed(publish: Callable[..., None], folder: Path) -> None:
    publish("painters")
    folder.chmod(0o755)
    for arguments in (["--once"], ["--json"]):
        completed = top(*arguments)
        assert completed.returncode == 2
        assert completed.stdout == ""
        assert str(folder) in completed.stderr
        assert "Traceback" not in completed.stderr


def test_any_output_will_do(publish: Callable[..., None]) -> None:
    publish("ärger")
    completed = top("--once", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert completed.returncode == 0
    assert completed.stdout.startswith(r"\xe4rger")


@pytest.mark.parametrize(
    ("redirection", "status", "message"),
    [
        (">/dev/full", 1, "cannot write standard output: No space left"),
        (">&-", 2, "standard output is closed"),
        ("| true; exit ${PIPESTATUS[0]}", 141, ""),
    ],
)
def test_an_output_that_does_not_work(
    publish: Callable[..., None], redirection: str, status: int, message: str
) -> None:
    publish(*(f"pool {number}" for number in range(1000)))  # More than a pipe has room for.
    completed = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m warmpool top --once {redirection}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND,
    )
    assert completed.returncode == status
    assert message in completed.stderr
    assert len(completed.stderr.splitlines()) <= 2
    assert "Traceback" not in completed.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--once"),
        (["--interval", "0"], "--interval"),
        (["--interval", "often"], "--interval"),
        (["painters"], "painters"),
    ],
)
def test_usage_error(arguments: list[str], named: str) -> None:
    # What rich takes for a terminal is none.
    completed = top(*arguments, stdin=subprocess.DEVNULL, env=os.environ | {"FORCE_COLOR": "1"})
    assert completed.returncode == 2
    assert completed.stdout == ""
    assert named in completed.stderr
    assert "Traceback" not in completed.stderr


# ---------------------------------------------------------------------------- on a terminal


class Screen:
    """``warmpool top`` on a pseudo terminal of its own."""

    def __init__(self, *arguments: str, lines: int = 40, **options: Any) -> None:
        self._controller, self._device = os.openpty()
        self._before = termios.tcgetattr(self._device)
        environment = {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": str(lines)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "warmpool", "top", *arguments],
            stdin=self._device,
            stdout=self._device,
            stderr=self._device,
            env=os.environ | environment | options.pop("env", {}),
            **options,
        )
        self.shown = ""

    def wait_for(self, text: str) -> str:
        """Read on until that has come up, and return what was read."""
        new = ""
        while text not in ESCAPE.sub("", new):
            ready, _, _ = select.select([self._controller], [], [], BOUND)
            assert ready, f"no {text!r} in {new!r}"
            new += os.read(self._controller, 65536).decode()
        self.shown += new
        return new

    def type(self, keys: bytes) -> None:
        os.write(self._controller, keys)

    def is_in_order(self) -> bool:
        """Whether the terminal is as it was."""
        return termios.tcgetattr(self._device) == self._before

    def read_to_end(self) -> int:
        """Read until the command has ended; its exit status."""
        while self.process.poll() is None or select.select([self._controller], [], [], 0)[0]:
            if select.select([self._controller], [], [], 0.05)[0]:
                self.shown += os.read(self._controller, 65536).decode()
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._controller)
        os.close(self._device)


@pytest.fixture
def screen() -> Iterator[Callable[..., Screen]]:
    made: list[Screen] = []

    def make(*arguments: str, **options: Any) -> Screen:
        made.append(Screen(*arguments, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def assert_in_order(left: Screen) -> None:
    assert left.is_in_order(), "keys are as they were"
    assert left.shown.rindex("\x1b[?1049l") > left.shown.rindex("\x1b[?1049h"), "so is the screen"
    assert left.shown.rindex("\x1b[?25h") > left.shown.rindex("\x1b[?25l"), "and the cursor"
    assert "Traceback" not in left.shown


@pytest.mark.parametrize("interval", ["0.05", "1e300"])
@pytest.mark.parametrize(
    ("how", "status"),
    [
        (b"q", 0),
        (b"Q", 0),
        (b"\x1b[Bq", 0),
        (b"\x04", 0),
        (signal.SIGINT, 0),
        (signal.SIGTERM, 143),
    ],
)
def test_leaving(
    publish: Callable[..., None],
    screen: Callable[..., Screen],
    how: bytes | signal.Signals,
    status: int,
    interval: str,
) -> None:
    publish("painters")
    shown = screen("--interval", interval)
    shown.wait_for("painters")
    assert not shown.is_in_order(), "keys come one by one"
    if isinstance(how, bytes):
        shown.type(how)
    else:
        shown.process.send_signal(how)
    assert shown.read_to_end() == status
    assert_in_order(shown)


def test_it_is_live(publish: Callable[..., None], screen: Callable[..., Screen]) -> None:
    shown = screen("--interval", "0.05")
    shown.wait_for("monitor=True")
    publish("painters")
    shown.wait_for("painters")
    shown.type(b"q")
    assert shown.read_to_end() == 0


def test_stopped_by_a_shell(publish: Callable[..., None], screen: Callable[..., Screen]) -> None:
    publish("painters")
    shown = screen("--interval", "1000", process_group=0)
    shown.wait_for("painters")
    shown.process.send_signal(signal.SIGTSTP)
    until(lambda: processes.state(shown.process.pid) == "T", "it has stopped")
    assert shown.is_in_order()
    shown.process.send_signal(signal.SIGCONT)
    shown.wait_for("painters")
    assert not shown.is_in_order()
    shown.type(b"q")
    assert shown.read_to_end() == 0
    assert_in_order(shown)


def test_without_a_shell_it_is_not_stopped(
    publish: Callable[..., None], screen: Callable[..., Screen]
) -> None:
    publish("painters")
    shown = screen("--interval", "1000", start_new_session=True)
    shown.wait_for("painters")
    shown.process.send_signal(signal.SIGTSTP)
    shown.wait_for("painters")
    shown.type(b"q")
    assert shown.read_to_end() == 0
    assert_in_order(shown)


def test_more_than_there_is_room_for(
    publish: Callable[..., None], screen: Callable[..., Screen]
) -> None:
    publish(*(f"pool {number:02}" for number in range(10)))
    shown = screen("--interval", "1000", lines=12)
    assert "pool 09" not in shown.wait_for("lines 1 to 10 of 39")
    shown.type(b"j\x1b[B")
    shown.wait_for("lines 3 to 12 of 39")
    shown.type(b"\x1b[6~" * 20)
    assert "pool 00" not in shown.wait_for("pool 09")
    shown.type(b"kk\x1b[A\x1b[A")
    shown.wait_for("lines 26 to 35 of 39")
    shown.type(b"q")
    assert shown.read_to_end() == 0


def test_a_dumb_terminal_will_not_do(screen: Callable[..., Screen]) -> None:
    shown = screen(env={"TERM": "dumb"})
    assert shown.read_to_end() == 2
    assert "--once" in shown.shown
    assert shown.is_in_order()


def test_a_folder_that_is_opened_to_others_meanwhile(
    publish: Callable[..., None], screen: Callable[..., Screen], folder: Path
) -> None:
    publish("painters")
    shown = screen("--interval", "0.05")
    shown.wait_for("painters")
    folder.chmod(0o755)
    assert shown.read_to_end() == 2
    assert_in_order(shown)
    assert "0700" in shown.shown[shown.shown.rindex("\x1b[?1049l") :]
