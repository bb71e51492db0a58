"""The processes below one process, from /proc (Linux), and keeping them all on one core."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

# A process may end between being listed and being looked at.
GONE = (FileNotFoundError, ProcessLookupError)


def _parents() -> dict[int, int]:
    """pid -> parent's pid, of every process that can be seen."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(*GONE), open(f"/proc/{entry}/stat", "rb") as file:
                # The name stands in brackets and may itself hold spaces and brackets.
                parents[int(entry)] = int(file.read().rpartition(b")")[2].split()[1])
    return parents


def descendants(root: int) -> list[int]:
    """Children, grandchildren and so on, zombies included, parents before their children."""
    parents = _parents()
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def command(pid: int) -> str:
    with suppress(*GONE), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def _threads(pids: Iterable[int]) -> Iterator[int]:
    for pid in pids:
        with suppress(*GONE):
            yield from map(int, os.listdir(f"/proc/{pid}/task"))


def _place(cores: set[int]) -> None:
    host = os.getpid()
    for thread in _threads([host, *descendants(host)]):
        with suppress(ProcessLookupError):
            os.sched_setaffinity(thread, cores)


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Every thread of this process and of all below it on `core`; None leaves them free.

    Affinity belongs to a thread and is inherited at birth: a worker that a fork server or
    another thread starts would escape if only the calling thread were pinned.
    """
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    _place({core})
    try:
        yield
    finally:
        _place(before)


def proportional_memory(pid: int) -> int:
    """Bytes of it, those that it shares divided by how many share them (PSS)."""
    with suppress(*GONE), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    return 0
