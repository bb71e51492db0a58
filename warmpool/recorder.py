"""The flight recorder: memory that a worker shares with its supervisor.

The worker notes in it which task it has started, and that it lives; its fault handler writes stacks
into it. The supervisor reads it only when it matters, after a death, at a deadline or at a
heartbeat's time, and so tells *never started* from *died running* without a message for each task.
One mapping for each worker (I8): what one of them scribbles over harms no other.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import tempfile

STACK_AT = mmap.PAGESIZE
"""Where the stacks begin. Fields are before that."""
_STACK_ROOM = 1 << 20
"""Bytes. A hundred frames of a hundred threads fit; what was never written takes no memory."""
SIZE = STACK_AT + _STACK_ROOM

STACK_SIGNAL: int = getattr(signal, "SIGRTMAX", signal.SIGUSR1) - 1
"""Asks a worker for its stacks. A real-time signal where there are any: applications use others."""

INTERRUPT_SIGNAL: int = STACK_SIGNAL - 1 if hasattr(signal, "SIGRTMAX") else signal.SIGUSR2
"""Tells a worker to look at the interruption that is noted for its task."""

_TASK = struct.Struct("<Q")
_BEATS = struct.Struct("<Q")
_FLAGS = struct.Struct("<B")
_INTERRUPTION = struct.Struct("<dd")
_TASK_AT, _BEATS_AT, _FLAGS_AT, _INTERRUPTED_AT, _INTERRUPTION_AT, _RAISED_AT = 0, 8, 16, 24, 32, 48
_STACKS_TO_BE_HAD = 1


def create() -> int:
    """Make the shared memory; the descriptor is the caller's to close."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("warmpool-recorder", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.ftruncate(descriptor, SIZE)
        os.lseek(descriptor, STACK_AT, os.SEEK_SET)  # Where the fault handler goes on writing.
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class Recorder:
    """One side's view of the shared memory.

    Args:
        descriptor: From :func:`create`. It may be closed afterwards.
    """

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, SIZE)

    # ------------------------------------------------------------------ in the worker

    def note_started(self, task: int) -> None:
        """From here on the task may have had effects."""
        _TASK.pack_into(self._map, _TASK_AT, task)

    def beat(self) -> None:
        """The worker lives. *Threads:* one."""
        (beats,) = _BEATS.unpack_from(self._map, _BEATS_AT)
        _BEATS.pack_into(self._map, _BEATS_AT, (beats + 1) & (1 << 64) - 1)

    @property
    def interrupted(self) -> int:
        """The task that is to be interrupted, 0 for none."""
        task: int = _TASK.unpack_from(self._map, _INTERRUPTED_AT)[0]
        return task

    @property
    def interruption(self) -> tuple[float | None, float | None]:
        """That task's soft limit, and how long it has from then on; each in seconds, or None."""
        limit, left = _INTERRUPTION.unpack_from(self._map, _INTERRUPTION_AT)
        return (None if limit < 0 else limit), (None if left < 0 else left)

    def note_raised(self, task: int) -> None:
        """The interruption has been raised in that task."""
        _TASK.pack_into(self._map, _RAISED_AT, task)

    def note_stacks_to_be_had(self) -> None:
        """From here on :data:`STACK_SIGNAL` is answered."""
        _FLAGS.pack_into(self._map, _FLAGS_AT, _STACKS_TO_BE_HAD)

    # ------------------------------------------------------------------ in the supervisor

    @property
    def last_started(self) -> int:
        """The last task noted, 0 for none."""
        started: int = _TASK.unpack_from(self._map, _TASK_AT)[0]
        return started

    @property
    def beats(self) -> int:
        """A number that changes as long as the worker lives."""
        beats: int = _BEATS.unpack_from(self._map, _BEATS_AT)[0]
        return beats

    @property
    def stacks_are_to_be_had(self) -> bool:
        """Whether the worker answers :data:`STACK_SIGNAL`."""
        flags: int = _FLAGS.unpack_from(self._map, _FLAGS_AT)[0]
        return flags == _STACKS_TO_BE_HAD

    def interrupt(self, task: int, limit: float | None, left: float | None) -> None:
        """Note that a task is to be interrupted; :data:`INTERRUPT_SIGNAL` has to follow."""
        _INTERRUPTION.pack_into(
            self._map,
            _INTERRUPTION_AT,
            -1.0 if limit is None else limit,
            -1.0 if left is None else left,
        )
        # Last: the worker may look at any moment.
        _TASK.pack_into(self._map, _INTERRUPTED_AT, task)

    @property
    def raised(self) -> int:
        """The last task in which an interruption was raised, 0 for none."""
        task: int = _TASK.unpack_from(self._map, _RAISED_AT)[0]
        return task

    def stacks(self) -> str:
        """What the worker's fault handler has written so far, as text."""
        end = self._map.find(b"\0", STACK_AT)
        return self._map[STACK_AT : SIZE if end < 0 else end].decode("utf-8", "replace")

    def close(self) -> None:
        """Give the mapping up."""
        self._map.close()
