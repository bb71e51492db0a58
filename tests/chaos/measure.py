"""What a host holds: descriptors, threads, processes, memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import os
import re
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from tests.helpers import processes

PATIENCE = 30.0
"""Seconds that the last threads and processes of closed pools have to be gone."""
MiB = 1 << 20
MEMORY_SLACK = 64 * MiB
"""Bytes that a host may grow by between two calm moments. Large results come and go, and leave
holes: the same host has 60 MiB and 90 by turns."""
BLOCKS_SLACK = 3000
"""Blocks of the interpreter's that it may have more. Those tell of what is kept, for nothing but
that has any influence: some twenty come with each phase, a forgotten pool has thousands."""
STEADY_FOR = 1.0
"""Seconds in which nothing goes, after which nothing will."""


@dataclass(frozen=True)
class Holding:
    """What there is at one calm moment."""

    things: Counter[str]
    memory: float
    blocks: float

    def whatever_its_memory(self) -> Holding:
        """The same for who does not compare that."""
        return Holding(self.things, math.inf, math.inf)

    def with_memory_of(self, other: Holding) -> Holding:
        """The same things, but that memory."""
        return Holding(self.things, other.memory, other.blocks)

    def more_than(self, other: Holding) -> list[str]:
        """What is there beside what was then."""
        found = [
            f"{count} more of {thing}" for thing, count in (self.things - other.things).items()
        ]
        if self.memory > other.memory + MEMORY_SLACK:
            found.append(f"{(self.memory - other.memory) / MiB:.0f} MiB more")
        if self.blocks > other.blocks + BLOCKS_SLACK:
            found.append(f"{self.blocks - other.blocks:.0f} blocks of memory more")
        return found


def members() -> list[int]:
    """The other processes of this session, but for the standard library's resource tracker."""
    others = (pid for pid in processes.session_members(os.getsid(0)) if pid != os.getpid())
    return [pid for pid in others if "resource_tracker" not in processes.command_line(pid)]


def take() -> Holding:
    """Look around."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # Not every C library has it.
        # What is free goes back to the system: else there is, by chance, some large result's room
        # in the arena of each thread that ever was.
        ctypes.CDLL(None).malloc_trim(0)
    things: Counter[str] = Counter()
    for to in processes.descriptors(os.getpid()).values():
        things[f"descriptor of {re.sub(r'[0-9]+', '#', to)}"] += 1
    for thread in threading.enumerate():
        things[f"thread {re.sub(r'[0-9]+', '#', thread.name)}"] += 1
    for pid in members():
        things[f"process {processes.command_line(pid)}"] += 1
    return Holding(things, _resident(), sys.getallocatedblocks())


def settled(than: Holding | None) -> tuple[Holding, list[str]]:
    """What there is, and what of it is too much, once that does not get less any more.

    Without anything to compare it with, once nothing goes any more.
    """
    now, since = take(), time.monotonic()
    give_up_at = since + PATIENCE
    while True:
        surplus = now.more_than(than) if than is not None else list(map(str, members()))
        is_steady = than is not None or time.monotonic() - since >= STEADY_FOR
        if not surplus and is_steady:
            return now, surplus
        if time.monotonic() >= give_up_at:
            return now, surplus + _holders()
        time.sleep(0.05)
        before, now = now, take()
        if now.things != before.things:
            since = time.monotonic()


def _holders() -> list[str]:
    """Sockets and connections that are open, with the kinds of things by which they are held."""
    found = []
    for held in gc.get_objects():
        if isinstance(held, (socket.socket, Connection)):
            try:
                number = held.fileno()
            except OSError:
                continue  # It is closed.
            if number >= 0:
                found.append(f"descriptor {number} is held by {_chain(held)}")
    return found


def _chain(held: object) -> str:
    kinds, at, seen = [], held, {id(held)}
    for _ in range(12):
        kinds.append(getattr(at, "__qualname__", None) or type(at).__qualname__)
        others = [
            other
            for other in gc.get_referrers(at)
            if id(other) not in seen and not isinstance(other, FrameType)
        ]
        seen.update(map(id, others))
        # Dictionaries and lists say little; whoever has them says more.
        if not others:
            break
        at = others[-1]
    return " < ".join(kinds)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
