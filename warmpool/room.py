"""Memory for large bytes on their way: taken from the kernel as it fills, in large pages.

Where 64 MB are received, or copied, into memory that the process does not have yet, most of the
time goes into taking it, page by page. So it is a mapping of its own, for which large pages are
asked. It has no descriptor, no name and no other owner: it ends with the last object that uses it,
or with the process, at whatever point that is killed.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
from typing import Final

LARGE: Final = 1 << 20
"""Bytes from which on a mapping costs less than it saves."""

AHEAD: Final = 1 << 27
"""Bytes of address space that may be reserved for what has only been announced (I13)."""

_HUGE: int | None = getattr(mmap, "MADV_HUGEPAGE", None)
_CAN_GROW: Final = sys.platform == "linux"


def _mapping(size: int) -> mmap.mmap | None:
    """Fresh memory; None if there is no address space, or no number, left for it."""
    try:
        mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError):
        return None
    if _HUGE is not None:
        with contextlib.suppress(OSError):  # A kernel without large pages.
            mapping.madvise(_HUGE)
    return mapping


def copied(data: memoryview) -> memoryview:
    """A copy of these bytes, which must not be none.

    Raises:
        MemoryError: There is no room for it.
    """
    memory = _mapping(len(data))
    if memory is None:
        return memoryview(bytearray(data))
    copy = memoryview(memory)
    copy[:] = data
    return copy


class Room:
    """Room for so many bytes, which arrive bit by bit.

    Memory grows with what has arrived, and address space not far ahead of that (I13).

    Args:
        size: How many there will be; not none.

    Attributes:
        size: As given.
        missing: How many have yet to arrive.
    """

    __slots__ = ("_filled", "_free", "_memory", "missing", "size")

    def __init__(self, size: int) -> None:
        self.size = self.missing = size
        self._filled = 0
        # None: as other bytes, in memory of the usual kind, which is copied as it grows.
        self._memory: mmap.mmap | bytearray | None = None
        self._free = memoryview(b"")
        # Invariant: nothing but this looks into the memory, which else could not be resized.

    @property
    def free(self) -> memoryview:
        """Where the next bytes are to be put: at least one, unless none is missing.

        Raises:
            MemoryError: There is no room for them.
        """
        if not self._free and self.missing:
            self._grow()
        return self._free

    def took(self, count: int) -> None:
        """So many bytes were put there."""
        self._filled += count
        self.missing -= count
        rest = self._free[count:]
        self._free.release()
        self._free = rest

    def put(self, data: memoryview) -> int:
        """Put in as many of these as are missing, and tell how many that was.

        Raises:
            MemoryError: There is no room for them.
        """
        done, count = 0, min(len(data), self.missing)
        while done < count:
            free = self.free
            step = min(len(free), count - done)
            free[:step] = data[done : done + step]
            del free
            self.took(step)
            done += step
        return count

    def contents(self) -> memoryview:
        """What has arrived, once nothing is missing."""
        memory, self._memory, self._free = self._memory, None, memoryview(b"")
        assert memory is not None
        return memoryview(memory)

    def _grow(self) -> None:
        self._free.release()
        ahead = max(AHEAD, 2 * self._filled) if _CAN_GROW else self.size
        size = min(self.size, ahead)
        memory = self._memory
        if memory is None:
            memory = _mapping(size)
            if memory is None:
                memory = bytearray()
        elif isinstance(memory, mmap.mmap):
            try:
                memory.resize(size)
            except OSError:
                memory = bytearray(memory)
        if isinstance(memory, bytearray):
            # For real, so not far ahead.
            size = min(self.size, self._filled + max(LARGE, self._filled // 8))
            memory.extend(bytes(size - len(memory)))
        self._memory = memory
        self._free = memoryview(memory)[self._filled : size]
