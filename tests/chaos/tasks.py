"""What workers run. Each run is noted before all else, so that they can be counted from outside."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import subprocess
import time
from pathlib import Path
from typing import Any, NoReturn

from tests.helpers import faults, payloads
from warmpool.errors import SoftTimeout

logger = logging.getLogger("tests.chaos")

_LONG = 3600.0


class Known(Exception):
    """What a task raises that is to raise."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def note(runs: Path, number: int) -> None:
    """Note a run: one write to the end of a file is one piece, whoever else writes."""
    descriptor = os.open(runs, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"%d\n" % number)
    finally:
        os.close(descriptor)


def known(number: int) -> int:
    """The result of most tasks."""
    return number * number + 1


def content(number: int, size: int) -> bytes:
    """So many bytes that no other task has."""
    return hashlib.sha256(b"%d" % number).digest() * (size // 32)


# ---------------------------------------------------------------------------- harmless


def answer(runs: Path, number: int) -> int:
    note(runs, number)
    return known(number)


def nap(runs: Path, number: int, seconds: float) -> int:
    note(runs, number)
    time.sleep(seconds)
    return known(number)


def compute(runs: Path, number: int, seconds: float) -> int:
    note(runs, number)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return known(number)


def return_much(runs: Path, number: int, size: int) -> bytes:
    note(runs, number)
    return content(number, size)


def take_much(runs: Path, number: int, much: bytes) -> int:
    note(runs, number)
    return known(number) if much == content(number, len(much)) else -1


def raise_known(runs: Path, number: int) -> NoReturn:
    note(runs, number)
    raise Known(number)


def log(runs: Path, number: int) -> int:
    note(runs, number)
    logger.warning("task %d says something", number)
    return known(number)


def start_a_program(runs: Path, number: int) -> int:
    note(runs, number)
    subprocess.run(["true"], check=True)
    return known(number)


def leave_a_program(runs: Path, number: int) -> int:
    """It has the worker's group, and goes when that one does."""
    note(runs, number)
    program = subprocess.Popen(["sleep", "3600"])
    program.returncode = 0  # Else its destructor warns that it runs.
    return known(number)


# ---------------------------------------------------------------------------- at a limit


def exhaust_descriptors(runs: Path, number: int) -> int:
    """Use up every descriptor of the worker, for a moment."""
    note(runs, number)
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        time.sleep(0.02)
    finally:
        # If it is asked to end, too: the worker lives on.
        for descriptor in taken:
            os.close(descriptor)
    return known(number)


def inflate(runs: Path, number: int, size: int) -> NoReturn:
    """Take so many bytes, and keep them."""
    note(runs, number)
    # In pieces: the worker does not beat during any of them, and all at once they may take longer
    # than it may be silent, on a machine that is slow.
    piece = os.urandom(1 << 16)
    balloon = [bytearray(piece) for _ in range(size >> 16)]
    time.sleep(_LONG)
    raise AssertionError(len(balloon))


def clean_up(runs: Path, number: int) -> int:
    """Work until asked to end."""
    note(runs, number)
    try:
        time.sleep(_LONG)
    except SoftTimeout:
        return known(number)
    return -1


def end_early(runs: Path, number: int) -> NoReturn:
    """The same, but let it pass."""
    note(runs, number)
    time.sleep(_LONG)
    raise AssertionError


# ---------------------------------------------------------------------------- with faults


def commit(runs: Path, number: int, fault: str) -> Any:
    note(runs, number)
    return faults.perform(fault)


def commit_on_pickling(runs: Path, number: int, fault: str) -> Any:
    note(runs, number)
    return payloads.return_fault_on_pickling(fault)


def commit_once(runs: Path, number: int, fault: str, scar: Path) -> int:
    """Commit a fault at the first run, and answer at the next."""
    note(runs, -number)  # So that whoever counts knows that there may be more than one.
    try:
        os.close(os.open(scar, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
    except FileExistsError:
        return known(number)
    faults.perform(fault)
    raise AssertionError


def take(runs: Path, number: int, _argument: Any) -> int:
    """Comes too late if the argument does something as it is unpickled."""
    note(runs, number)
    return known(number)


def return_unpicklable(runs: Path, number: int) -> Any:
    note(runs, number)
    return open(os.devnull)


def _refuse() -> NoReturn:
    raise Known(-1)


def return_unreadable(runs: Path, number: int) -> Any:
    """A result that raises in whoever reads it."""
    note(runs, number)
    return payloads.return_on_unpickling(_refuse)
