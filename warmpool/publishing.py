"""What a pool with ``monitor=True`` publishes for ``warmpool top``.

A file for each pool, written anew every second by a thread of its own: whoever reads it disturbs
nobody, and finds the last state of a host that hangs or is dead.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import os
import queue
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from warmpool import billboard
from warmpool.birth import born
from warmpool.callbacks import logger
from warmpool.census import Census
from warmpool.thread import DaemonThread

FORMAT = 1
INTERVAL = 1.0
"""Seconds between two snapshots."""
_RATE_SNAPSHOTS = 6
"""The rate is that since the snapshot so many ago."""


class Publisher:
    """Writes a pool's snapshots.

    Args:
        pool: The pool's name.
        about: What does not change: written into each snapshot.
        ask: Counts the pool; may block.
    """

    def __init__(self, pool: str, about: dict[str, Any], ask: Callable[[], Census | None]) -> None:
        self._pool = pool
        self._about = about
        self._ask = ask
        # Containers may share the folder, and each has its own numbers of processes.
        self._file = f"{os.getpid()}-{os.urandom(4).hex()}.json"
        self._place: Path | None = None
        self._settled: deque[tuple[float, int]] = deque(maxlen=_RATE_SNAPSHOTS)
        self._is_told = False
        # Not an Event, which has a lock inside. The garbage collector may run somebody's finalizer
        # on the thread that holds it, and if that waited for the pool's end, the supervisor, which
        # comes to close(), would wait for the lock.
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread = DaemonThread(self._run, f"{pool}-publisher")

    def open(self) -> None:
        """Start its thread.

        Raises:
            RuntimeError: The system has no thread left.
        """
        self._thread.start()

    def close(self) -> None:
        """Have it end, and remove the file. *Threads:* any; never blocks."""
        self._ended.put(None)

    def join(self, timeout: float) -> None:
        """Wait for its end, in seconds. *Threads:* others; blocks."""
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while True:
                self._try_to_publish()
                try:
                    self._ended.get(timeout=INTERVAL)
                except queue.Empty:
                    continue
                return
        finally:
            self._remove()

    def _try_to_publish(self) -> None:
        try:
            census = self._ask()
            if census is not None:
                self._publish(json.dumps(self._snapshot(census), default=_plain))
        except Exception as error:
            # Whatever it is, the pool is none the worse for it; and the folder may be mended.
            if not self._is_told:
                self._is_told = True
                logger.warning("pool %r cannot be seen by warmpool top: %s", self._pool, error)

    def _snapshot(self, census: Census) -> dict[str, Any]:
        now, settled = time.monotonic(), sum(census.tasks_settled.values())
        since, before = self._settled[0] if self._settled else (now, settled)
        self._settled.append((now, settled))
        return {
            "format": FORMAT,
            "at": now,
            # For what is left of a host that has died, maybe with the machine, whose monotonic
            # clock starts anew.
            "time": time.time(),
            "born": born(os.getpid()),
            "rate": (settled - before) / (now - since) if now > since else None,
            **self._about,
            **_plain(census),
        }

    def _publish(self, text: str) -> None:
        place = billboard.places()[0]
        with billboard.opened(place, make=True) as folder:
            billboard.write(folder, self._file, text)
        if place != self._place:
            self._remove()
            self._place = place

    def _remove(self) -> None:
        if self._place is None:
            return
        try:
            with billboard.opened(self._place) as folder:
                billboard.remove(folder, self._file)
        except OSError:
            # No descriptor is left, say; this needs none. The folder may be another's by now, but
            # nobody has a file of that name there.
            with contextlib.suppress(OSError):
                os.unlink(self._place / self._file)


def _plain(value: Any) -> Any:
    # Not by dataclasses.asdict(), which copies all there is: for a thousand workers it holds the
    # interpreter's lock for 30 ms.
    if isinstance(value, enum.Enum):
        return value.value
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
