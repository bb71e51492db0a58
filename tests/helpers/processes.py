"""Looking at processes from outside, by way of /proc."""

from __future__ import annotations

import os
import re
import select
import signal
from pathlib import Path
from typing import NamedTuple

from tests.helpers.waiting import BOUND


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on, None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def state(pid: int) -> str | None:
    """One letter: R running, S asleep, T stopped, Z zombie; None if it is gone."""
    fields = _stat(pid)
    return None if fields is None else fields[0]


def is_running(pid: int) -> bool:
    """Whether it is there and has not ended."""
    return state(pid) not in (None, "Z", "X")


def parent(pid: int) -> int | None:
    """Its parent's pid."""
    fields = _stat(pid)
    return None if fields is None else int(fields[1])


def living_parent(pid: int) -> int:
    """The parent of a process that lives: its template, say."""
    found = parent(pid)
    assert found is not None
    return found


def session(pid: int) -> int | None:
    """Its session."""
    fields = _stat(pid)
    return None if fields is None else int(fields[3])


class Identity(NamedTuple):
    """What no second process shares."""

    pid: int
    started: int


def identity(pid: int) -> Identity | None:
    """Tell a process from a later one of the same number."""
    fields = _stat(pid)
    return None if fields is None else Identity(pid, int(fields[19]))


def all_pids() -> list[int]:
    """Every process there is."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def session_members(leader: int) -> list[int]:
    """The processes of a session that have not ended."""
    return [pid for pid in all_pids() if session(pid) == leader and is_running(pid)]


def children(pid: int) -> list[int]:
    """Its children that have not ended."""
    return [other for other in all_pids() if parent(other) == pid and is_running(other)]


def command_line(pid: int) -> str:
    """Its command line, the name in brackets if it has none."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return "(gone)"
    return b" ".join(words).decode(errors="replace").strip() or f"[{name}]"


def descriptors(pid: int) -> dict[int, str]:
    """Its open descriptors and what they refer to."""
    found = {}
    directory = f"/proc/{pid}/fd"
    for name in os.listdir(directory):
        try:
            found[int(name)] = os.readlink(f"{directory}/{name}")
        except FileNotFoundError:
            pass  # Closed since, or the one that lists.
    return found


def signals(pid: int, which: str) -> set[int]:
    """The signals of a mask in /proc/PID/status: SigBlk, SigIgn or SigCgt."""
    text = Path(f"/proc/{pid}/status").read_text()
    match = re.search(rf"^{which}:\s*([0-9a-f]+)$", text, re.MULTILINE)
    assert match is not None
    mask = int(match[1], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def wait_gone(pid: int, bound: float = BOUND) -> None:
    """Wait for the end of a process, whoever's child it is."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([watch], [], [], bound)
        assert ready, f"process {pid} lives after {bound:g} s: {command_line(pid)}"
    finally:
        os.close(watch)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def inherit_orphans() -> None:
    """Have this process be the parent of its descendants' orphans, as the first of a container."""
    import ctypes  # Not for all the workers that import this module.

    pr_set_child_subreaper = 36
    assert ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0) == 0
