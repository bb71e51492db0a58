"""Programs that use a pool, run as processes of their own: for their ends, signals and limits."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import processes
from tests.helpers.waiting import BOUND, until

_ROOT = Path(__file__).parents[2]

_OF_CPYTHON = re.compile(
    # From 3.12 on: that a program with threads should not fork, of a fork in the script itself.
    r".*/host\.py:\d+: DeprecationWarning: This process .* multi-threaded.*\n  .*os\.fork\(\)\n"
    # 3.13, at the end of a fork, or of one who collects all children: that its resource tracker is
    # not there to be collected.
    r"|Exception ignored in: <function ResourceTracker\.__del__ .*\n(  .*\n|Traceback.*\n)*"
    r"ChildProcessError: .*\n"
)


class Host:
    """A running program, the leader of a session of its own: none of its workers leaves that.

    Args:
        script: Its source.
        arguments: Its arguments.
        folder: For its files; its temporary ones go to ``folder/tmp``.
    """

    def __init__(self, script: str, *arguments: object, folder: Path) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        # Short: the path of a socket of AF_UNIX must not exceed 107 bytes.
        self._shortcut = Path(tempfile.mkdtemp(prefix="wh-", dir="/tmp"), "t")
        self._shortcut.symlink_to(self.temporary)
        path = folder / "host.py"
        path.write_text(textwrap.dedent(script))
        self._errors = folder / "stderr"
        self._unread = b""
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(path), *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(_ROOT), "TMPDIR": str(self._shortcut)},
                start_new_session=True,
            )
        self.pid = self._process.pid

    def line(self, bound: float = BOUND) -> str:
        """Wait for its next line of output."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        give_up_at = time.monotonic() + bound
        while b"\n" not in self._unread:
            left = max(0.0, give_up_at - time.monotonic())
            ready, _, _ = select.select([descriptor], [], [], left)
            assert ready, f"the host said nothing for {bound:g} s; stderr:\n{self.stderr}"
            data = os.read(descriptor, 1 << 16)
            assert data, f"the host's output has ended; stderr:\n{self.stderr}"
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def numbers(self) -> list[int]:
        """Wait for its next line, of numbers."""
        return [int(word) for word in self.line().split()]

    def say(self, text: str = "") -> None:
        """Give it a line of input."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")
        self._process.stdin.flush()

    def signal(self, number: int) -> None:
        """Signal its whole process group, as a terminal does."""
        os.killpg(self.pid, number)

    def kill(self) -> None:
        """SIGKILL it, and nobody else."""
        self._process.kill()
        self._process.wait(BOUND)

    def wait(self) -> int:
        """Wait for its end, and return its exit status."""
        try:
            return self._process.wait(BOUND)
        except subprocess.TimeoutExpired:
            alive = [processes.command_line(pid) for pid in self.members()]
            raise AssertionError(f"the host lives: {alive}; stderr:\n{self.stderr}") from None

    @property
    def stderr(self) -> str:
        """What it has written, without what newer CPythons say of a program's own forks."""
        return _OF_CPYTHON.sub("", self._errors.read_text())

    def members(self) -> list[int]:
        """It, its workers, and whoever else is of its session."""
        return processes.session_members(self.pid)

    def wait_deserted(self) -> None:
        """Wait until the last process of its session is gone."""
        until(
            lambda: not self.members(),
            f"the host's session is empty: {list(map(processes.command_line, self.members()))}",
        )

    def temporary_files(self) -> list[Path]:
        return sorted(self.temporary.rglob("*"))

    def close(self) -> None:
        """End all that is left of it."""
        for pid in self.members():
            processes.kill(pid)
        with self._process:
            pass
        self._shortcut.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):  # It is closed a second time.
            self._shortcut.parent.rmdir()
        self.wait_deserted()


@pytest.fixture
def run_host(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Run programs; what is left of them ends with the test."""
    hosts: list[Host] = []

    def run(script: str, *arguments: Any) -> Host:
        hosts.append(Host(script, *arguments, folder=tmp_path / f"host-{len(hosts)}"))
        return hosts[-1]

    yield run
    for host in hosts:
        host.close()
