"""How much memory a process and its descendants use.

Resident set sizes are cheap to read, and count what processes share once for each of them: workers
that were forked from one process share nearly everything. So the proportional size decides (and
what is swapped out counts), but it makes the kernel walk all pages, so it is read only of those
whose resident size is past the limit. *Threads:* those that may block: to read of a process that
is stuck in the kernel can take as long as that.
"""

from __future__ import annotations

import os

import psutil


def used_by(pid: int, limit: int) -> int | None:
    """Bytes that a process and its descendants use, at least if it is more than ``limit``.

    Returns:
        None if there is no such process. *Threads:* those that may block.
    """
    try:
        processes = [psutil.Process(pid), *_descendants(pid)]
    except psutil.NoSuchProcess:
        return None
    resident = sum(map(_resident, processes))
    return resident if resident <= limit else sum(map(_proportional, processes))


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0  # Gone meanwhile.


def _proportional(process: psutil.Process) -> int:
    try:
        info = process.memory_full_info()
    except psutil.AccessDenied:
        return _resident(process)
    except psutil.Error:
        return 0
    # Where there is no such thing: what is its own alone.
    return int(getattr(info, "pss", info.uss)) + int(getattr(info, "swap", 0))


def _descendants(pid: int) -> list[psutil.Process]:
    if not os.path.exists("/proc/thread-self/children"):
        return psutil.Process(pid).children(recursive=True)
    # psutil looks at every process of the machine for that.
    found: list[psutil.Process] = []
    pids = _children(pid)
    while pids:
        try:
            found.append(psutil.Process(child := pids.pop()))
        except psutil.NoSuchProcess:
            continue
        pids += _children(child)
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                children += map(int, file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        pass  # The process, or that thread, is gone.
    return children
