"""What a start method is to know of its pool, and what the pool is told by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from warmpool import parts, payload, wire
from warmpool.errors import WarmpoolError
from warmpool.servers import Watch

LONGEST_FIRST_FRAME = 1 << 15
"""Bytes. What an empty socket takes at once everywhere, as ``lease.LONGEST_FRAME``."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What workers, and what starts them, are to do before they are ready.

    Attributes:
        pool: The pool's name.
        init_timeout: Seconds from a worker's start to its being ready.
        initializer: For workers that inherit it.
        preload: The same.
        pickled: The initializer for workers that do not. Its descriptors are the launcher's to
            close.
        pickled_preload: The preload for those, if there is one.
    """

    pool: str
    init_timeout: float
    initializer: payload.Initializer = payload.NOTHING
    preload: payload.Initializer = payload.NOTHING
    pickled: payload.PickledInitializer | None = None
    pickled_preload: bytes | None = None

    def pickle(self, dumps: parts.Dumps) -> Plan:
        """The same for workers that inherit nothing.

        Raises:
            PayloadError: The initializer or the preload cannot be pickled.
        """
        before = None
        if self.preload is not payload.NOTHING:
            before = payload.dump_preload(self.preload, dumps)
        pickled = payload.dump_initializer(self.initializer, dumps)
        return Plan(self.pool, self.init_timeout, pickled=pickled, pickled_preload=before)

    @property
    def first_frame(self) -> bytes:
        """What is written to every worker before it is started; empty if it is too long."""
        body = self.first_message
        frame = wire.header(wire.INITIALIZE, 0, len(body)) + body
        return frame if len(frame) <= LONGEST_FIRST_FRAME else b""

    @property
    def first_message(self) -> bytes:
        """The body of every worker's."""
        return b"" if self.pickled is None else self.pickled.body

    def close(self) -> None:
        """Close the pickled initializer's descriptors."""
        if self.pickled is not None:
            self.pickled.close()


@dataclass(frozen=True, slots=True)
class News:
    """Where a start method reports on what it keeps between starts. *Threads:* any.

    Attributes:
        server_started: Takes a descriptor, for good, that is readable once that has died. Nobody
            need hear of servers that are replaced when they are needed next.
        server_failed: Takes what went wrong, what follows from it, and a level to log that at.
    """

    server_started: Callable[[Watch], None]
    server_failed: Callable[[WarmpoolError, str, int], None]


def refuse_reload(start_method: str) -> NoReturn:
    """Say that a start method has nothing to reload.

    Raises:
        RuntimeError: Always.
    """
    raise RuntimeError(
        f"start_method={start_method!r} has no template whose preload could be run again; "
        "make the pool with start_method='template', or make another pool"
    )
