"""What pools preload, and tasks that tell what came of it."""

from __future__ import annotations

import _thread
import atexit
import os
import random
import sys
import threading
import types
import weakref
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


def leave_a_thread_that_ends_for_forks() -> None:
    """As OpenBLAS does: a thread that Python does not know, and a hook that ends it."""
    leave, left = threading.Event(), threading.Event()

    def wait() -> None:
        leave.wait()
        left.set()

    def end() -> None:
        leave.set()
        left.wait()

    _thread.start_new_thread(wait, ())
    os.register_at_fork(before=end)


def leave_a_thread_unknown_to_python() -> None:
    _thread.start_new_thread(threading.Event().wait, ())


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


class _Thing:
    """Something that can be waited for to be forgotten."""


def register_hooks(notes: Path) -> None:
    """Hooks at exit, of both kinds, that tell who has run them."""

    def note(kind: str) -> None:
        with notes.open("a") as file:
            file.write(f"{kind} {os.getpid()}\n")

    atexit.register(note, "atexit")
    noted["thing"] = _Thing()
    weakref.finalize(noted["thing"], note, "finalize")


def register_own_hook(notes: Path) -> int:
    """A task that sets such a hook itself."""
    noted["own thing"] = _Thing()
    weakref.finalize(noted["own thing"], notes.write_text, "own")
    return os.getpid()


def fork_and_come_back(statuses: Path) -> None:
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        statuses.write_text(str(os.waitstatus_to_exitcode(status)))


def fork_and_exit(statuses: Path) -> None:
    pid = os.fork()
    if not pid:
        sys.exit(0)
    os.waitpid(pid, 0)


def raise_a_lot() -> None:
    raise ValueError("x" * (20 << 20))


def keep(data: bytes) -> None:
    noted["size"] = len(data)


def size() -> Any:
    return noted["size"]
