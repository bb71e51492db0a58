"""What pools have published, and what can be seen of their processes from outside."""

from __future__ import annotations

import contextlib
import enum
import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from warmpool import publishing

SILENT_AFTER = 3 * publishing.INTERVAL
"""Seconds after which a host that lives and publishes nothing counts as hanging."""
FORGOTTEN_AFTER = 86_400.0
"""Seconds after which the last state of a dead host is removed."""


class Host(enum.Enum):
    """How the process of a pool is."""

    LIVE = "live"
    STOPPED = "stopped"
    SILENT = "silent"
    """It is there, and has published nothing for a while: it hangs."""
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Published:
    """One pool as it has described itself.

    Attributes:
        facts: The snapshot.
        age: Seconds since it was taken.
        host: How the process is.
        memory: Bytes by worker's pid, of those that are there, read from outside.
    """

    facts: Mapping[str, Any]
    age: float
    host: Host
    memory: Mapping[int, int]

    @property
    def key(self) -> tuple[int, float, str]:
        """What tells one pool from another."""
        return self.facts["pid"], self.facts["created"], self.facts["pool"]

    @property
    def settled(self) -> int:
        """How many tasks have their answer."""
        return sum(self.facts["tasks_settled"].values())


_TYPES: dict[str, type | tuple[type, ...]] = {
    "pool": str,
    "pid": int,
    "created": (int, float),
    "at": (int, float),
    "start_method": str,
    "max_workers": int,
    "health": str,
    "workers": dict,
    "queued": int,
    "running": int,
    "tasks_settled": dict,
    "worker_exits": dict,
    "cold_starts": int,
    "details": list,
}


def parse(text: str) -> dict[str, Any] | None:
    """A snapshot; None if it is none, or one of another version's."""
    try:
        facts = json.loads(text)
    except ValueError:
        return None
    if not isinstance(facts, dict) or facts.get("format") != publishing.FORMAT:
        return None
    if not all(isinstance(facts.get(name), types) for name, types in _TYPES.items()):
        return None
    wanted = {"id", "pid", "state", "task", "task_name", "in_state", "uptime", "tasks_done"}
    if not all(isinstance(worker, dict) and wanted <= worker.keys() for worker in facts["details"]):
        return None
    return facts


def judge(age: float, exists: bool, is_stopped: bool) -> Host:
    """How a host is, by what is known of it."""
    if not exists:
        return Host.GONE
    if is_stopped:
        return Host.STOPPED
    return Host.SILENT if age > SILENT_AFTER else Host.LIVE


def look() -> list[Published]:
    """All pools that are published here, by name.

    Raises:
        PermissionError: The directory is not this user's alone.
    """
    folder = publishing.directory()
    try:
        publishing.check(folder)
    except FileNotFoundError:
        return []
    found = []
    for path in folder.glob("*.json"):
        with contextlib.suppress(FileNotFoundError):  # Its pool has ended at this moment.
            facts = parse(path.read_text(errors="replace"))
            if facts is None:
                continue
            published = _seen(facts)
            if published.host is Host.GONE and published.age > FORGOTTEN_AFTER:
                path.unlink()
            else:
                found.append(published)
    return sorted(found, key=lambda published: (published.facts["pool"], published.facts["pid"]))


def _seen(facts: dict[str, Any]) -> Published:
    import psutil

    # That clock is the same for all processes, and starts anew with the machine.
    now = time.monotonic()
    age = now - facts["at"] if facts["at"] <= now else math.inf
    exists = is_stopped = False
    with contextlib.suppress(psutil.Error, OverflowError):
        process = psutil.Process(facts["pid"])
        exists = process.create_time() == facts["created"]
        status = process.status()
        exists = exists and status != psutil.STATUS_ZOMBIE
        is_stopped = status == psutil.STATUS_STOPPED
    pids = [worker["pid"] for worker in facts["details"] if isinstance(worker["pid"], int)]
    return Published(facts, age, judge(age, exists, is_stopped), _memory(pids) if exists else {})


def _memory(pids: Iterable[int]) -> dict[int, int]:
    import psutil

    memory = {}
    for pid in pids:
        with contextlib.suppress(psutil.Error, OverflowError):
            memory[pid] = int(psutil.Process(pid).memory_info().rss)
    return memory
