"""What pools preload, and tasks that tell what came of it."""

from __future__ import annotations

import os
import random
import sys
import threading
import types
from pathlib import Path
from typing import Any

from tests.helpers.gate import Gate

noted: dict[str, Any] = {}


def note_pid(attempts: Path) -> None:
    """Note who preloads, here and in a file."""
    noted["pid"] = os.getpid()
    noted["main"] = threading.current_thread() is threading.main_thread()
    with attempts.open("a") as file:
        file.write(f"{os.getpid()}\n")


def read(path: Path) -> None:
    """Preload what is in a file; raises if there is none."""
    noted["text"] = path.read_text()


def text() -> tuple[str, int]:
    return noted["text"], os.getpid()


def who() -> tuple[Any, Any, int]:
    """Who has preloaded, whether on its main thread, and who tells."""
    return noted.get("pid"), noted.get("main"), os.getpid()


def note_initializer() -> None:
    """An initializer: it comes after the preload."""
    noted["seen"] = noted.get("pid")


def seen() -> Any:
    return noted.get("seen")


def announce_and_wait(gate: Gate) -> None:
    gate.hold()


def hold_the_second_time(attempts: Path, gate: Gate) -> None:
    note_pid(attempts)
    if len(attempts.read_text().splitlines()) > 1:
        gate.hold()


def announce_and_fork_no_more(gate: Gate) -> None:
    """Hang in the first fork."""

    def hang() -> None:
        gate.hold()

    os.register_at_fork(before=hang)


def leave_a_thread(attempts: Path) -> None:
    note_pid(attempts)
    threading.Thread(target=threading.Event().wait, name="a poller", daemon=True).start()


def number_of_threads() -> int:
    return threading.active_count()


def print_a_line() -> None:
    print("preloaded once")


def seed_everything() -> None:
    """As if numpy were there, whose state is copied by a fork."""
    random.seed(1)
    stub = types.ModuleType("numpy.random")
    stub.seed = lambda: noted.__setitem__("reseeded in", os.getpid())  # type: ignore[attr-defined]
    sys.modules["numpy.random"] = stub
    os.register_at_fork(after_in_child=lambda: noted.__setitem__("hook ran in", os.getpid()))


def draw() -> tuple[float, Any, Any, int]:
    return random.random(), noted.get("reseeded in"), noted.get("hook ran in"), os.getpid()
