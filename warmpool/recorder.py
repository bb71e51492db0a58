"""The flight recorder: a few bytes that a worker shares with its supervisor.

The worker notes in it which task it has started; the supervisor reads it only when it matters,
after a death or at a deadline, and so tells *never started* from *died running* without a message
for each task. One mapping for each worker (I8): what one of them scribbles over harms no other.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile

SIZE = mmap.PAGESIZE

_TASK = struct.Struct("<Q")


def create() -> int:
    """Make the shared bytes; the descriptor is the caller's to close."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("warmpool-recorder", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.ftruncate(descriptor, SIZE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class Recorder:
    """One side's view of the shared bytes.

    Args:
        descriptor: From :func:`create`. It may be closed afterwards.
    """

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, SIZE)

    def note_started(self, task: int) -> None:
        """In the worker: from here on the task may have had effects."""
        _TASK.pack_into(self._map, 0, task)

    @property
    def last_started(self) -> int:
        """In the supervisor: the last task noted, 0 for none."""
        started: int = _TASK.unpack_from(self._map, 0)[0]
        return started

    def close(self) -> None:
        """Give the mapping up."""
        self._map.close()
