"""Who starts hosts, stops them, kills them, and looks for what they have left."""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chaos.report import Report
from tests.helpers import processes
from tests.helpers.hosts import Host
from tests.helpers.waiting import BOUND

_SCRIPT = """
    import sys
    from tests.chaos import host

    if __name__ == "__main__":
        host.main(sys.argv[1:])
"""

LIFETIME = 0.6
"""The part of a round that belongs to the host which ends in order."""
KILLED_AFTER = 5.0
"""Seconds that a host lives at most before it is killed."""
SILENT_FOR = 60.0
"""Seconds that a host may say nothing, while it starts, too."""
PHASE = 15.0
"""Seconds of one phase, about."""


class Round:
    """Some hosts, one after the other.

    Args:
        seed: Decides about all of it.
        folder: For their files.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self.report = Report()
        self._seed = seed
        self._random = random.Random(seed)
        self._folder = folder
        self._count = 0

    def play(self, seconds: float) -> Report:
        """Play for about so many seconds; returns what is to be said of it."""
        began = time.monotonic()
        self.let_live(seconds * LIFETIME)
        while time.monotonic() - began < seconds or not self.report.killed:
            self.kill_one()
        return self.report

    def _run(self, seconds: float, phases: int) -> Host:
        self._count += 1
        # Short: the path of a socket of AF_UNIX must not exceed 107 bytes.
        folder = self._folder / f"h{self._count}"
        return Host(_SCRIPT, f"{self._seed}.{self._count}", seconds, phases, folder, folder=folder)

    # ------------------------------------------------------------------ one that ends in order

    def let_live(self, seconds: float) -> None:
        """Have a host live for so many seconds, and end; it is stopped now and then."""
        phases = max(2, round(seconds / PHASE))
        host = self._run(seconds / phases, phases)
        try:
            self._live_with(host)
        except AssertionError as error:
            # Where its threads are; it needs a moment to write that down.
            processes.kill(host.pid, signal.SIGUSR2)
            time.sleep(0.5)
            self._complain(host, str(error))
        finally:
            host.close()

    def _live_with(self, host: Host) -> None:
        while (line := host.line(SILENT_FOR)) in ("begun", "lives"):
            if self._random.random() < 0.15:
                processes.kill(host.pid, signal.SIGSTOP)
                time.sleep(self._random.uniform(0, 1.5))
                processes.kill(host.pid, signal.SIGCONT)
        self.report.add(Report.loads(line))
        if (status := host.wait()) != 0:
            self._complain(host, f"the host has ended with {status}")
        host.wait_deserted()
        if left := [path for path in host.temporary_files() if path.name != "run"]:
            self._complain(host, f"left behind: {left}")

    # ------------------------------------------------------------------ one that is killed

    def kill_one(self) -> None:
        """Have a host live for a while, kill it, and look for what is left."""
        host = self._run(60, 1)
        try:
            if self._random.random() < 0.8:
                while host.line(SILENT_FOR) != "begun":
                    pass
            give_up_at = time.monotonic() + self._random.uniform(0, KILLED_AFTER)
            while (left := give_up_at - time.monotonic()) > 0:
                time.sleep(min(left, 0.1))
            self._kill(host)
        except AssertionError as error:
            self._complain(host, str(error))
        finally:
            host.close()

    def _kill(self, host: Host) -> None:
        self.report.killed += 1
        began = time.monotonic()
        host.kill()
        while host.members() and time.monotonic() - began < BOUND:
            time.sleep(0.01)
        took = time.monotonic() - began
        self.report.lingering = max(self.report.lingering, took)
        if left := host.members():
            self._complain(host, f"alive after {took:.1f} s: {[_about(pid) for pid in left]}")
        for runs in host.temporary.parent.glob("phase-*/runs"):
            self._count_runs(host, runs)

    def _count_runs(self, host: Host, runs: Path) -> None:
        # The last line may be half one: whoever wrote it was killed.
        noted = Counter(int(line) for line in runs.read_text().split("\n")[:-1] if int(line) > 0)
        if twice := [number for number, count in noted.items() if count > 1]:
            self._complain(host, f"run more than once: {twice}")

    def _complain(self, host: Host, what: str) -> None:
        log = host.temporary.parent / "log"
        told = log.read_text()[-4000:] if log.exists() else ""
        self.report.problems.append(
            f"seed {self._seed}, host {self._count}: {what}\n{host.stderr[-6000:]}\n{told}"
        )


def _about(pid: int) -> str:
    return f"{pid} ({processes.state(pid)}): {processes.command_line(pid)}"


def play(seed: int, seconds: float, *, keep: bool = False) -> Report:
    """Play one round in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="wpc-"))
    report = Round(seed, folder).play(seconds)
    if keep and report.problems:
        report.problems.append(f"the files are in {folder}")
    else:
        shutil.rmtree(folder)
    return report
