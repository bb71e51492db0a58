"""What the kernel tells of a dead process that somebody else has reaped, or is to reap."""

from __future__ import annotations

import os
import platform
import re
import select
import subprocess
import sys
import textwrap
from collections.abc import Callable

import psutil
import pytest

from tests.helpers import faults, processes, tasks
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import WarmPool, WorkerDied, laststatus

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="no pidfds here")

KERNEL = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
TELLS_OF_THE_REAPED = sys.platform == "linux" and KERNEL >= (6, 15)


@pytest.fixture
def dead(request: pytest.FixtureRequest) -> Callable[[str], tuple[int, int]]:
    """Makes a process that is dead and not reaped: its pid and pidfd."""

    def make(script: str) -> tuple[int, int]:
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", script], os.environ)
        pidfd = os.pidfd_open(pid)
        request.addfinalizer(lambda: os.close(pidfd))
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(BOUND * 1000)
        return pid, pidfd

    return make


ENDS = pytest.mark.parametrize(
    ("script", "code"), [("exit 7", 7), ("exit 0", 0), ("kill -9 $$", -9)], ids=["7", "0", "-9"]
)


@ENDS
def test_of_one_that_is_not_reaped(dead, script, code):
    pid, pidfd = dead(script)
    try:
        assert laststatus.exitcode(pid, pidfd) == code
    finally:
        os.waitpid(pid, 0)


@ENDS
def test_of_one_that_is_reaped(dead, script, code):
    pid, pidfd = dead(script)
    os.waitpid(pid, 0)
    assert laststatus.exitcode(pid, pidfd) == (code if TELLS_OF_THE_REAPED else None)


def test_not_of_a_stranger_that_has_got_its_number(dead):
    pid, pidfd = dead("exit 7")
    stranger, _ = dead("exit 3")
    os.waitpid(pid, 0)
    try:
        assert laststatus.exitcode(stranger, pidfd) == (7 if TELLS_OF_THE_REAPED else None)
    finally:
        os.waitpid(stranger, 0)


def test_not_by_what_is_no_pidfd(dead):
    # As where a sentinel has to do, since a sandbox knows no pidfds.
    pid, _ = dead("exit 7")
    reading, writing = os.pipe()
    try:
        assert laststatus.exitcode(pid, reading) is None
    finally:
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)


TRACER = """
    import ctypes, os, sys

    PTRACE_SEIZE, WALL = 0x4206, 0x40000000
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long] * 4
    pid = int(sys.argv[1])
    refused = ptrace(PTRACE_SEIZE, pid, 0, 0) and ctypes.get_errno()
    print(refused, flush=True)
    sys.stdin.read()
    if not refused:
        os.waitpid(pid, WALL)
"""


def test_a_worker_that_dies_in_a_debugger_is_reaped_once_that_has_looked(
    make_pool: Callable[..., WarmPool],
) -> None:
    """Until then, waitpid() says of the host's own child what it says of one that is not dead."""
    pool = make_pool(1, start_method="spawn")
    pid = pool.submit(tasks.own_pid).result(BOUND)
    command = [sys.executable, "-c", textwrap.dedent(TRACER), str(pid)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as tracer:
        assert tracer.stdout is not None
        if refused := int(tracer.stdout.readline()):
            pytest.skip(f"no debuggers here: {os.strerror(refused)}")
        future = pool.submit(faults.exits_with_3)
        until(lambda: processes.state(pid) == "Z", "it is dead, and its debugger has yet to look")
        error = outcome(future)
    assert isinstance(error, WorkerDied)
    pool.close(BOUND)
    until(lambda: not psutil.pid_exists(pid), "it is reaped")
    assert error.exitcode == 3
