"""What the user sees of a run while it runs."""

from __future__ import annotations

import os
import pty
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from warmpool.progress import Lines, Quiet, Rate, Snapshot

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A pseudo terminal: what a command writes to it, and what it is told."""

    def __init__(self) -> None:
        self.controller, self.device = pty.openpty()

    def read_to_end(self) -> str:
        """Read until the last process has closed the device."""
        os.close(self.device)
        self.device = -1
        chunks: list[bytes] = []
        while True:
            try:
                chunk = os.read(self.controller, 65536)
            except OSError:  # EIO: how Linux tells that nobody has the device open
                chunk = b""
            if not chunk:
                return b"".join(chunks).decode()
            chunks.append(chunk)

    def close(self) -> None:
        os.close(self.controller)
        if self.device >= 0:
            os.close(self.device)


@pytest.fixture
def terminal() -> Any:
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture
def command(command: Any) -> Any:
    command.environment["TERM"] = "xterm-256color"
    command.environment["COLUMNS"] = "120"
    return command


def test_bar_on_a_terminal(command: Any, terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "input").write_text("upper a\nraise b\n" * 20)
    running = command.start("cli_functions:act", "input", "--workers", "2", stderr=terminal.device)
    shown = terminal.read_to_end()
    completed = running.finish()
    assert len(completed.records) == 40
    assert "━" in shown
    assert re.search(r"\d+ done, \d+ failed, [\d.]+/s \| workers: .* \| pool \w+", shown)
    assert "\x1b[?25h" in shown  # the cursor is back
    assert "40 done, 20 failed in" in ESCAPE.sub("", shown)


def test_bar_makes_way_for_results_on_the_same_terminal(
    command: Any, terminal: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "input").write_text("".join(f"word{n}\n" for n in range(200)))
    running = command.start(
        "cli_functions:same", "input", stdout=terminal.device, stderr=terminal.device
    )
    shown = terminal.read_to_end()
    assert running.process.wait() == 0
    # What a line shows is what follows the last order to clear it.
    lines = [re.split(r"\x1b\[2K", line)[-1].strip("\r") for line in shown.split("\n")]
    for number in range(200):
        assert f'{{"input": "word{number}", "result": "word{number}"}}' in lines


def test_interrupt_leaves_the_terminal_in_order(command: Any, terminal: Terminal) -> None:
    running = command.start("cli_functions:same", stderr=terminal.device)
    running.write(b"a\n")
    assert running.read()["result"] == "a"
    running.interrupt(signal.SIGINT)
    shown = terminal.read_to_end()
    assert running.process.wait() == 130
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert "stopped by SIGINT" in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("reason", ["no rich", "dumb terminal", "typed input"])
def test_plain_lines_where_a_bar_cannot_be(
    command: Any, terminal: Terminal, tmp_path: Path, reason: str
) -> None:
    options: dict[str, Any] = {"stderr": terminal.device}
    if reason == "no rich":
        (tmp_path / "rich.py").write_text("raise ImportError('not installed')\n")
    elif reason == "dumb terminal":
        command.environment["TERM"] = "dumb"
    else:
        options["stdin"] = terminal.device
        os.write(terminal.controller, b"a\n\x04")
    running = command.start("cli_functions:same", **options)
    if reason != "typed input":
        running.write(b"a\n")
        running.process.stdin.close()
        running.process.stdin = None
    assert running.read()["result"] == "a"
    shown = terminal.read_to_end()
    assert running.process.wait() == 0
    assert "1 done in" in shown
    assert "\x1b" not in shown


def test_lines_elsewhere(command: Any) -> None:
    completed = command.run("cli_functions:act", stdin=b"upper a\nraise b\n")
    assert re.fullmatch(r"warmpool: 2 done, 1 failed in [\d.]+ s \([\d.]+/s\)\n", completed.stderr)


def test_no_progress(command: Any, terminal: Terminal) -> None:
    running = command.start("cli_functions:same", "--no-progress", stderr=terminal.device)
    running.write(b"a\n")
    assert running.finish().exitcode == 0
    assert terminal.read_to_end() == ""


def test_no_progress_still_tells_what_went_wrong(command: Any) -> None:
    completed = command.run(
        "cli_functions:same",
        "--no-progress",
        "--initializer",
        "cli_functions:fail_to_initialize",
        stdin=b"a\n",
    )
    assert "the model is not there" in completed.stderr


# ------------------------------------------------------------------------------ the parts


def test_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate()
    assert rate.measure(0.0, 0) == 0.0
    assert rate.measure(1.0, 100) == 100.0
    for second in range(2, 30):
        measured = rate.measure(float(second), 100)
    assert measured == 0.0


def snapshot(done: int) -> Snapshot:
    return Snapshot(done=done, failed=0, fraction=None, health="ready", workers={"idle": 1})


def test_lines_appear_only_when_something_has_changed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(sys.stderr)
    for done in (0, 0, 1, 1, 1, 2):
        lines.update(snapshot(done))
    shown = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in shown] == ["1", "2"]
    assert "workers: 1 idle | pool ready" in shown[0]


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Quiet(sys.stderr)
    quiet.update(snapshot(1))
    quiet.make_way()
    quiet.summarize(snapshot(1))
    assert capsys.readouterr().err == ""
    quiet.say("no")
    assert capsys.readouterr().err == "warmpool: no\n"
