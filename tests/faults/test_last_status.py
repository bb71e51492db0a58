"""What the kernel tells of a dead process that somebody else has reaped, or is to reap."""

from __future__ import annotations

import os
import platform
import re
import select
import sys
from collections.abc import Callable

import pytest

from tests.helpers.waiting import BOUND
from warmpool import laststatus

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
