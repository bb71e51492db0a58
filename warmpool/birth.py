"""When a process was born: with its number, that is what no second process shares."""

from __future__ import annotations

import os


def born(pid: int) -> float | None:
    """By a clock that nobody sets, where there is one. None: it has ended, or never was.

    A time of day would be worked out from the machine's start, which is another one as soon as
    somebody sets the clock: all hosts would have died in that moment.
    """
    if os.path.exists("/proc/self/stat"):
        return _born_by_proc(pid)
    import psutil  # It takes a while to import.

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process.create_time()
    except (psutil.Error, OverflowError):
        return None


def _born_by_proc(pid: int) -> float | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The name, in brackets, may have any byte in it.
    fields = text.rpartition(b")")[2].split()
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return None  # A zombie has ended; whether somebody collects it is their affair.
    return float(fields[19])
