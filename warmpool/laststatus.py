"""The exit status of a dead process that somebody else reaps, or has reaped: the kernel's own word.

The parent has to be woken up before it can tell, may be stopped, and may be dead. The kernel tells
at once, by one of two ways:

* As long as the process is not reaped, ``/proc`` has its status.
* Once it is, a pidfd has it that was made before (Linux 6.15; the ``PIDFD_GET_INFO`` of
  ``linux/pidfd.h``).
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct

_STATUS_FIELD = 49
"""Which field of /proc/PID/stat the exit status is, after the name: see proc(5)."""

_INFO = struct.Struct("=Q52xi")
"""As much of ``struct pidfd_info`` as tells: which parts are asked for, or given; the status."""
_GET_INFO = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11  # _IOWR(PIDFS_IOCTL_MAGIC, 11, ...)
_INFO_EXIT = 1 << 3


def exitcode(pid: int, pidfd: int) -> int | None:
    """As ``multiprocessing`` has it; None if the kernel does not tell.

    Args:
        pid: The process's, if it is not reaped; else it may be anybody's.
        pidfd: The process's, dead.
    """
    status = _of_the_unreaped(pid, pidfd)
    if status is None:
        status = _of_the_reaped(pidfd)
    return None if status is None else os.waitstatus_to_exitcode(status)


def _of_the_unreaped(pid: int, pidfd: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            fields = file.read().rpartition(b")")[2].split()
        is_dead = fields[:1] == [b"Z"]
        status = int(fields[_STATUS_FIELD]) if is_dead else None
        if status == 0 and not _may_know(pid):
            status = None
        # What was read is another's if the process had been reaped by then. It had not if it has
        # not now: who waits to be reaped still takes signals.
        signal.pidfd_send_signal(pidfd, 0)
    except (OSError, AttributeError, IndexError, ValueError):
        return None
    return status


def _may_know(pid: int) -> bool:
    """Whether the 0 in a dead process's status is one: who may not know is told that, too."""
    # The kernel asks the same of who wants to know its program. Who may is told that it has none.
    try:
        os.readlink(f"/proc/{pid}/exe")
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def _of_the_reaped(pidfd: int) -> int | None:
    info = bytearray(_INFO.pack(_INFO_EXIT, 0))
    try:
        fcntl.ioctl(pidfd, _GET_INFO, info)
    except OSError:
        return None  # An older kernel; or this is no pidfd.
    given, status = _INFO.unpack(info)
    return status if given & _INFO_EXIT else None
