"""What pools have published, and what can be seen of their processes from outside."""

from __future__ import annotations

import contextlib
import enum
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from warmpool import billboard, publishing
from warmpool.birth import born

SILENT_AFTER = 3 * publishing.INTERVAL
"""Seconds after which a host that lives and publishes nothing counts as hanging."""
FORGOTTEN_AFTER = 86_400.0
"""Seconds after which the last state of a dead host is removed."""
_SLACK = 2.0
"""Seconds that two clocks, of which one counts in ticks and one may be slewed, may differ by."""


class Host(enum.Enum):
    """How the process of a pool is."""

    LIVE = "live"
    STOPPED = "stopped"
    SILENT = "silent"
    """It is there, and has published nothing for a while: it hangs."""
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Process:
    """A worker's process, seen from outside.

    Attributes:
        memory: Bytes of it that are in memory, shared ones included.
        status: In a word of psutil's: ``"sleeping"``, ``"stopped"``, ...
    """

    memory: int
    status: str


@dataclass(frozen=True, slots=True)
class Published:
    """One pool as it has described itself.

    Attributes:
        facts: The snapshot.
        age: Seconds since it was taken.
        host: How the process is.
        processes: Those of its workers that are there, by pid.
    """

    facts: Mapping[str, Any]
    age: float
    host: Host
    processes: Mapping[int, Process]


# ---------------------------------------------------------------------------- what is written

_NUMBER = (int, float)
_NONE = type(None)
_SNAPSHOT: dict[str, tuple[type, ...]] = {
    "pool": (str,),
    "pid": (int,),
    "born": (*_NUMBER, _NONE),
    "at": _NUMBER,
    "time": _NUMBER,
    "rate": (*_NUMBER, _NONE),
    "start_method": (str,),
    "max_workers": (int,),
    "health": (str,),
    "workers": (dict,),
    "queued": (int,),
    "running": (int,),
    "tasks_settled": (dict,),
    "worker_exits": (dict,),
    "cold_starts": (int,),
    "details": (list,),
}
_WORKER: dict[str, tuple[type, ...]] = {
    "id": (int,),
    "pid": (int, _NONE),
    "state": (str,),
    "task": (int, _NONE),
    "task_name": (str, _NONE),
    "in_state": _NUMBER,
    "uptime": _NUMBER,
    "tasks_done": (int,),
}


def parse(text: str) -> dict[str, Any] | None:
    """A snapshot; None if it is none, or one of another version's."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(facts, dict) or facts.get("format") != publishing.FORMAT:
        return None
    if not _fits(facts, _SNAPSHOT) or not all(
        isinstance(worker, dict) and _fits(worker, _WORKER) for worker in facts["details"]
    ):
        return None
    counts = [facts[name] for name in ("workers", "tasks_settled", "worker_exits")]
    if not all(_is_one_of((int,), count) for each in counts for count in each.values()):
        return None
    return facts


def _fits(found: dict[str, Any], wanted: dict[str, tuple[type, ...]]) -> bool:
    return all(name in found and _is_one_of(types, found[name]) for name, types in wanted.items())


def _is_one_of(types: tuple[type, ...], value: object) -> bool:
    # An integer of a thousand digits, an infinite number: JSON has both, and neither is a count, a
    # time or a pid.
    return type(value) in types and not (isinstance(value, _NUMBER) and not abs(value) < 1 << 63)


# ---------------------------------------------------------------------------- what there is


def judge(age: float, exists: bool, is_stopped: bool) -> Host:
    """How a host is, by what is known of it."""
    if not exists:
        return Host.GONE
    if is_stopped:
        return Host.STOPPED
    return Host.SILENT if age > SILENT_AFTER else Host.LIVE


def look() -> list[Published]:
    """All pools of this user that are published, by name.

    Raises:
        OSError: There is nothing to be seen, and a folder that cannot be looked into or, since it
            is not this user's alone, must not be believed.
    """
    found: list[Published] = []
    refusal: OSError | None = None
    for place in billboard.places():
        try:
            with billboard.opened(place) as folder:
                found += _look_into(folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            refusal = error
    if refusal is not None and not found:
        raise refusal
    return sorted(found, key=lambda published: (published.facts["pool"], published.facts["pid"]))


def _look_into(folder: int) -> Iterable[Published]:
    for name in os.listdir(folder):
        if name.endswith(billboard.DRAFT):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - os.stat(name, dir_fd=folder).st_mtime > FORGOTTEN_AFTER:
                    billboard.remove(folder, name)  # Its host died as it wrote it.
            continue
        text = billboard.read(folder, name)
        facts = None if text is None else parse(text)
        if facts is None:
            continue
        published = _seen(facts)
        if published.host is Host.GONE and published.age > FORGOTTEN_AFTER:
            billboard.remove(folder, name)
        else:
            yield published


def _seen(facts: dict[str, Any]) -> Published:
    if facts["born"] is None or born(facts["pid"]) != facts["born"]:
        return Published(facts, max(0.0, time.time() - facts["time"]), Host.GONE, {})
    # That clock is the same for all processes, until the machine starts anew.
    age = max(0.0, time.monotonic() - facts["at"])
    host = _process(facts["pid"], 0.0)
    # As long as a debugger has stopped it, too, it cannot publish.
    is_stopped = host is not None and host.status in ("stopped", "tracing-stop")
    pids = [worker["pid"] for worker in facts["details"] if worker["pid"] is not None]
    processes = {pid: process for pid in pids if (process := _process(pid, age)) is not None}
    return Published(facts, age, judge(age, True, is_stopped), processes)


def _process(pid: int, least_age: float) -> Process | None:
    """Look at a process, unless it is so young that it must be another one of that number."""
    import psutil  # Only top needs it, not the hosts: it takes a while to import.

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if time.time() - process.create_time() < least_age - _SLACK:
                return None
            return Process(process.memory_info().rss, process.status())
    except (psutil.Error, OverflowError, ValueError):
        return None
