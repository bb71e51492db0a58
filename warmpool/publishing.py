"""What a pool with ``monitor=True`` publishes for ``warmpool top``.

A file for each pool, written anew every second by a thread of its own: whoever reads it disturbs
nobody, and finds the last state of a host that hangs or is dead. It belongs to the user alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import stat
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from warmpool.callbacks import logger
from warmpool.census import Census
from warmpool.thread import DaemonThread

FORMAT = 1
INTERVAL = 1.0
"""Seconds between two snapshots."""

_numbers = itertools.count(1)


def directory() -> Path:
    """Where the files are; it may not be there yet."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "warmpool"
    return Path(tempfile.gettempdir()) / f"warmpool-{os.getuid()}"


def check(path: Path) -> None:
    """Refuse a directory in which somebody else could have put what is read, or read what is put.

    Raises:
        OSError: It is not there.
        PermissionError: It is no directory, or another user's, or open to others.
    """
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{path} has to be a directory of this user, with mode 0700")


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
        self._path = directory() / f"{os.getpid()}-{next(_numbers)}.json"
        self._ended = threading.Event()
        self._thread = DaemonThread(self._run, f"{pool}-publisher")

    def open(self) -> None:
        """Start its thread.

        Raises:
            RuntimeError: The system has no thread left.
        """
        self._thread.start()

    def close(self) -> None:
        """Have it end, and remove the file. Never blocks."""
        self._ended.set()

    def join(self, timeout: float) -> None:
        """Wait for its end, in seconds. *Threads:* others; blocks."""
        self._thread.join(timeout)

    def _run(self) -> None:
        import psutil

        self._about["created"] = psutil.Process().create_time()
        is_told = False
        try:
            while True:
                try:
                    self._write()
                except OSError as error:
                    if not is_told:
                        is_told = True
                        logger.warning(
                            "pool %r cannot be seen by warmpool top: %s", self._pool, error
                        )
                if self._ended.wait(INTERVAL):
                    return
        finally:
            with contextlib.suppress(OSError):  # It could not be written, either.
                self._path.unlink()

    def _write(self) -> None:
        census = self._ask()
        if census is None:
            return
        folder = self._path.parent
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        check(folder)
        fields = dataclasses.asdict(census) | {"health": census.health.value}
        snapshot = {"format": FORMAT, "at": time.monotonic(), **self._about, **fields}
        # In one step: a reader finds the old one or the new one.
        draft = self._path.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w") as file:
            json.dump(snapshot, file)
        os.replace(draft, self._path)
