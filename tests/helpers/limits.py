"""Tasks that run into soft limits and limits of memory."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.helpers import tasks
from tests.helpers.gate import Gate
from warmpool.errors import SoftTimeout

_LONG = 600.0
_kept: list[bytearray] = []


def _touched(size: int) -> bytearray:
    """So many bytes that are really there."""
    return bytearray(os.urandom(1 << 16)) * (size >> 16)


def grow_and_hold(size: int, gate: Gate) -> None:
    memory = _touched(size)
    gate.hold()
    del memory


def grow_for_good(size: int, gate: Gate) -> int:
    """Have the worker grow when the gate opens, which is not while it is busy; returns its pid."""

    def grow() -> None:
        gate.hold()
        _kept.append(_touched(size))

    threading.Thread(target=grow, daemon=True).start()
    return os.getpid()


def grow_and_sleep(size: int) -> None:
    """An initializer that does not get ready."""
    memory = _touched(size)
    time.sleep(_LONG)
    del memory


def grow_in_a_grandchild(size: int) -> None:
    """The worker stays small, what it has started does not."""
    code = f"import os, time; m = bytearray(os.urandom(1 << 16)) * ({size} >> 16); time.sleep(600)"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    subprocess.run([sys.executable, "-c", script], check=False)


# ---------------------------------------------------------------------------- soft limits


def announce_and_clean_up(gate: Gate, notes: Path) -> None:
    """Announce itself, wait to be interrupted, and clean up."""
    try:
        gate.hold()
    except SoftTimeout:
        notes.write_text("cleaned up")
        raise


def announce_and_hang(gate: Gate) -> None:
    """Announce itself, and hang whatever is raised."""
    while True:
        try:
            gate.hold()
        except SoftTimeout:
            continue


def sleep() -> None:
    time.sleep(_LONG)


def wait_for_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def read_a_pipe() -> None:
    reading, _writing = os.pipe()
    os.read(reading, 1)


def select_a_pipe() -> None:
    reading, _writing = os.pipe()
    select.select([reading], [], [])


def compute() -> None:
    while True:
        pass


def wait_for_a_program() -> None:
    subprocess.run(["sleep", "600"], check=False)


WAYS = {
    function.__name__: function
    for function in (
        sleep,
        wait_for_a_lock,
        read_a_pipe,
        select_a_pipe,
        compute,
        wait_for_a_program,
    )
}


def wait(way: str) -> None:
    """Hang in one of the ways that can be interrupted."""
    WAYS[way]()


def clean_up(way: str, path: Path, gate: Gate | None = None) -> str:
    """Hang, and clean up when asked to end."""
    try:
        if gate is not None:
            gate.announce()
        wait(way)
    except SoftTimeout as asked:
        tasks.note(path, str(asked.limit))
        return "cleaned up"
    return "nobody asked"


def refuse_to_end(path: Path, gate: Gate | None = None) -> None:
    """Hang, whatever is asked."""
    while True:
        try:
            if gate is not None:
                gate.announce()
            time.sleep(_LONG)
        except SoftTimeout:
            tasks.note(path, "refused")


def count_to(number: int) -> int:
    """Run for a moment, entirely in Python."""
    count = 0
    while count < number:
        count += 1
    return count
