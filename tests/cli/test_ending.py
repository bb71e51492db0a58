"""How ``warmpool map`` ends when it does not end by itself."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

SIGNALS = [
    pytest.param(signal.SIGINT, 130, id="SIGINT"),
    pytest.param(signal.SIGTERM, 143, id="SIGTERM"),
]


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive


# ------------------------------------------------------------------------------ signals


@pytest.mark.parametrize(("signum", "exitcode"), SIGNALS)
def test_signal_while_waiting_for_input(command: Any, signum: int, exitcode: int) -> None:
    running = command.start("cli_functions:same")
    running.write(b"a\n")
    assert running.read()["result"] == "a"
    workers = descendants(running.process.pid)
    running.interrupt(signum)
    assert running.process.wait() == exitcode
    assert "Traceback" not in running.stderr
    assert_gone(workers)


@pytest.mark.parametrize(("signum", "exitcode"), SIGNALS)
def test_signal_while_an_item_hangs_deaf(
    command: Any,
    fifo: Callable[[], Path],
    release: Callable[[Path], None],
    signum: int,
    exitcode: int,
) -> None:
    gate = fifo()
    running = command.start("cli_functions:act", "--workers", "2")
    running.write(f"upper a\nhang_deaf {gate}\n".encode())
    assert running.read()["result"] == "A"
    release(gate)
    workers = descendants(running.process.pid)
    running.interrupt(signum)
    assert running.process.wait() == exitcode
    assert running.finish().stdout == b""
    assert "Traceback" not in running.stderr
    assert_gone(workers)


def test_interrupt_writes_what_is_done_without_gaps(
    command: Any, tmp_path: Path, fifo: Callable[[], Path], release: Callable[[Path], None]
) -> None:
    """One worker hangs in the first item; the other has done the second, and works on the third."""
    first, third = fifo(), fifo()
    running = command.start("cli_functions:act", "--workers", "2", "--failures", "failed")
    running.write(f"hang_deaf {first}\nupper b\nhang_deaf {third}\n".encode())
    release(first)
    release(third)
    time.sleep(
        0.5
    )  # the result of the second is on its way to the host, nothing tells when it is in
    running.interrupt()
    completed = running.finish()
    assert completed.exitcode == 130
    hung, done = completed.records
    assert hung["error"]["type"] == "Interrupted"
    assert done == {"input": "upper b", "result": "B"}
    assert (tmp_path / "failed").read_text().count("\n") == 1


def test_interrupt_while_nobody_reads_the_output(command: Any) -> None:
    running = command.start("cli_functions:act", "--workers", "1")
    running.write(b"big 3000000\n" * 10)
    assert running.process.stdout.read(1) == b"{"
    running.interrupt()
    assert running.process.wait() == 130
    assert "Traceback" not in running.stderr


def test_interrupt_while_the_module_is_imported(
    command: Any, tmp_path: Path, fifo: Callable[[], Path], release: Callable[[Path], None]
) -> None:
    gate = fifo()
    text = f"import time\nwith open({str(gate)!r}): pass\ntime.sleep(3600)\ndef f(text): pass\n"
    (tmp_path / "endless_module.py").write_text(text)
    running = command.start("endless_module:f")
    release(gate)
    running.interrupt()
    assert running.process.wait() == 130
    assert "Traceback" not in running.stderr


def test_signal_while_the_module_is_imported_may_get_lost_in_a_callback(
    command: Any, tmp_path: Path
) -> None:
    """importlib calls its own weakref callbacks, and Python drops what these raise."""
    text = (
        "import os, signal, weakref\n"
        "class Thing: pass\n"
        "thing = Thing()\n"
        "kill = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))\n"
        "del thing\n"
        "def f(text): pass\n"
    )
    (tmp_path / "callback_module.py").write_text(text)
    running = command.start("callback_module:f")
    assert running.process.wait() == 130


def test_interrupt_while_workers_get_warm(
    command: Any, tmp_path: Path, fifo: Callable[[], Path], release: Callable[[Path], None]
) -> None:
    gate = fifo()
    text = f"import time\ndef f():\n    with open({str(gate)!r}): pass\n    time.sleep(3600)\n"
    (tmp_path / "endless_module.py").write_text(text)
    running = command.start(
        "cli_functions:same", "--workers", "1", "--initializer", "endless_module:f"
    )
    running.write(b"a\n")
    release(gate)
    workers = descendants(running.process.pid)
    running.interrupt()
    assert running.process.wait() == 130
    assert running.finish().stdout == b""
    assert "Traceback" not in running.stderr
    assert_gone(workers)


def test_ignored_interrupt_stays_ignored(command: Any) -> None:
    running = command.start(
        "cli_functions:same",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as nohup does for SIGHUP
    )
    running.write(b"a\n")
    assert running.read()["result"] == "a"
    running.process.send_signal(signal.SIGINT)
    running.write(b"b\n")
    assert running.read()["result"] == "b"
    assert running.finish().exitcode == 0


# ------------------------------------------------------------------------------ broken pipes


def test_reader_that_has_enough_ends_the_command(command: Any) -> None:
    words = (
        f"yes | {{ {sys.executable} -m warmpool map cli_functions:same; echo $? >status; }}"
        " | head -n 1"
    )
    completed = subprocess.run(
        ["sh", "-c", words],
        env=command.environment,
        cwd=command.directory,
        capture_output=True,
        text=True,
        check=True,
    )
    assert completed.stdout == '{"input": "y", "result": "y"}\n'
    assert (command.directory / "status").read_text() == "141\n"
    assert "Traceback" not in completed.stderr
    assert "BrokenPipe" not in completed.stderr


@pytest.mark.parametrize("line", [b"", b"hang\n"], ids=["no more input", "hanging item"])
def test_gone_reader_is_noticed_without_another_result(command: Any, line: bytes) -> None:
    running = command.start("cli_functions:act")
    running.write(b"upper a\n" + line)
    assert running.read()["result"] == "A"
    workers = descendants(running.process.pid)
    running.process.stdout.close()
    running.process.stdout = None
    assert running.process.wait() == 141
    assert "Traceback" not in running.stderr
    assert_gone(workers)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_ends_the_command_with_a_message(command: Any) -> None:
    with open("/dev/full", "wb") as full:
        running = command.start("cli_functions:same", stdout=full)
        running.write(b"a\n")
        assert running.process.wait() == 1
    assert "cannot write standard output: No space left" in running.stderr
    assert "Traceback" not in running.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_failures_file_ends_the_command_with_a_message(command: Any) -> None:
    running = command.start("cli_functions:act", "--failures", "/dev/full")
    running.write(b"raise x\n")
    assert running.process.wait() == 1
    assert "cannot write the failures file /dev/full: No space left" in running.stderr
    assert "Traceback" not in running.stderr


def test_file_that_vanishes_does_not_stop_the_others(
    command: Any, tmp_path: Path, fifo: Callable[[], Path], release: Callable[[Path], None]
) -> None:
    gate = fifo()
    (tmp_path / "one").write_text("upper a\n")
    (tmp_path / "two").write_text("upper b\n")
    (tmp_path / "three").write_text("upper c\n")
    running = command.start("cli_functions:act", "-", "two", "three")
    running.write(f"wait {gate}\n".encode())
    release(gate)
    assert running.read()["result"] == ""
    (tmp_path / "two").unlink()
    completed = running.finish()
    assert completed.results == ["C"]
    assert completed.exitcode == 1
    assert "cannot open two: No such file" in completed.stderr


# ------------------------------------------------------------------------------ broken pools


def test_pool_that_cannot_get_warm_is_told_once(command: Any) -> None:
    running = command.start(
        "cli_functions:same", "--initializer", "cli_functions:fail_to_initialize"
    )
    running.write(b"a\n")  # and never another line, nor an end
    assert running.process.wait() == 1
    assert running.finish().records[0]["error"]["type"] in ("PoolBroken", "InitializerFailed")
    assert running.stderr.count("stopped, because the pool is broken") == 1
    assert re.search(
        r"the model is not there \(File .*cli_functions.*fail_to_initialize\)", running.stderr
    )
    assert "Traceback" not in running.stderr


def test_broken_pool_ends_the_command_even_without_input(command: Any) -> None:
    running = command.start(
        "cli_functions:same", "--initializer", "cli_functions:fail_to_initialize"
    )
    assert running.process.wait() == 1
    assert "the model is not there" in running.stderr


def test_broken_pool_does_not_fail_its_way_through_endless_input(command: Any) -> None:
    words = (
        f"yes | {sys.executable} -m warmpool map cli_functions:same"
        " --workers 2 --initializer cli_functions:fail_to_initialize"
    )
    completed = subprocess.run(
        ["sh", "-c", words],
        env=command.environment,
        cwd=command.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 1
    assert 1 <= len(completed.stdout.splitlines()) <= 200  # What was on its way.


def test_pool_that_breaks_on_the_way_stops_the_run(command: Any, tmp_path: Path) -> None:
    command.environment["CLI_TEST_GONE"] = str(tmp_path / "gone")
    running = command.start(
        "cli_functions:die_for_good",
        "--workers",
        "1",
        "--initializer",
        "cli_functions:initialize_unless_gone",
    )
    running.write(b"a\nend\n")
    assert running.read()["result"] == "a"
    assert running.read()["error"]["type"] == "WorkerDied"
    assert running.process.wait() == 1
    assert "the model is gone" in running.stderr


# ------------------------------------------------------------------------------ nobody reads


def _until_full(descriptor: int) -> None:
    """Fill what the descriptor leads to, by another open file of it."""
    own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        while True:
            os.write(own, b"x" * 4096)
    except BlockingIOError:
        os.close(own)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="opens a descriptor once more")
@pytest.mark.parametrize("full", ["stdout", "stderr", "failures"])
@pytest.mark.parametrize("kind", ["pipe", "terminal", "socket"])
def test_interrupt_while_nobody_reads(command: Any, tmp_path: Path, full: str, kind: str) -> None:
    (tmp_path / "input").write_text("raise a\n" * 20_000)
    if kind == "pipe":
        reader, writer = os.pipe()
    elif kind == "terminal":
        reader, writer = os.openpty()
    elif full == "failures":
        pytest.skip("a socket has no name")
    else:
        one, other = socket.socketpair()
        reader, writer = one.detach(), other.detach()
    options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    arguments = ["cli_functions:act", "input", "--workers", "1"]
    if full == "failures":
        name = tmp_path / "failures"
        name.symlink_to(f"/proc/{os.getpid()}/fd/{writer}")
        arguments += ["--failures", str(name)]
    else:
        options[full] = writer
    if kind != "socket":
        _until_full(writer)
    running = command.start(*arguments, **options)
    # Interrupted when its worker is there, and so the run under way.
    while not descendants(running.process.pid):
        assert running.process.poll() is None
        time.sleep(0.01)
    running.interrupt()
    assert running.process.wait(timeout=30) == 130
    assert os.get_blocking(writer)  # Others share it.
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_a_run_does_not_depend_on_standard_error(command: Any, redirection: str) -> None:
    completed = subprocess.run(
        f"echo a | {sys.executable} -m warmpool map cli_functions:same {redirection}",
        shell=True,
        stdout=subprocess.PIPE,
        env=command.environment,
        check=False,
    )
    assert completed.returncode == 0
    assert json.loads(completed.stdout) == {"input": "a", "result": "a"}
