"""Functions that tests have run in workers."""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import socket
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from tests.helpers import faults
from tests.helpers.gate import Gate
from warmpool.errors import WorkerDied

T = TypeVar("T")


def echo(value: T) -> T:
    return value


def own_pid() -> int:
    return os.getpid()


def note(path: Path, text: str = "") -> int:
    """Add a line to a file, in one piece whoever else does; returns the pid."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{os.getpid()} {text}\n".encode())
    os.close(descriptor)
    return os.getpid()


def notes(path: Path) -> list[tuple[int, str]]:
    """The lines of such a file."""
    if not path.exists():
        return []
    lines = (line.partition(" ") for line in path.read_text().splitlines())
    return [(int(pid), text) for pid, _, text in lines]


def say(to: Connection | socket.socket) -> str:
    """Tell the other end what this one is."""
    if isinstance(to, socket.socket):
        to.sendall(b"socket")
        return "socket"
    to.send("connection")
    return "connection"


# ---------------------------------------------------------------------------- initializers


def need(path: Path, notes: Path) -> None:
    """Note the time, and fail as long as there is no such file."""
    note(notes, str(time.monotonic()))
    if not path.exists():
        raise faults.Oops("there is no cure yet")


def die_when_idle(notes: Path) -> None:
    """Note the time, and have the worker die once it waits for its first task."""
    note(notes, str(time.monotonic()))

    def die() -> None:
        main = threading.main_thread().ident
        while sys._current_frames()[main].f_code.co_name != "receive":  # type: ignore[index]
            time.sleep(0.001)
        os._exit(1)

    threading.Thread(target=die, daemon=True).start()


def hang_without_a_word(*_: Any) -> None:
    """In place of ``warmpool.child.main``."""
    faults.hangs_deaf_to_signals()


# ---------------------------------------------------------------------------- with faults
# Not in the test modules: a worker that imports one of those imports pytest, which takes longer
# than all the rest of a test.


def note_and(path: Path, fault: str) -> Any:
    note(path)
    return faults.perform(fault)


def fail_until(path: Path, attempts: int, fault: str) -> int:
    """Commit a fault at all runs but the last of so many; returns how many there were."""
    note(path)
    if len(notes(path)) < attempts:
        faults.perform(fault)
    return len(notes(path))


def announce_and(gate: Gate, fault: str) -> Any:
    gate.announce()
    return faults.perform(fault)


def hold_and(gate: Gate, fault: str) -> Any:
    gate.hold()
    return faults.perform(fault)


def hold_later_and(gate: Gate, fault: str) -> int:
    """Leave a thread behind that commits a fault when it is let pass; returns the pid."""
    threading.Thread(target=hold_and, args=(gate, fault), daemon=True).start()
    return os.getpid()


def commit_at_exit(fault: str) -> int:
    atexit.register(faults.perform, fault)
    return os.getpid()


def leave_a_thread(gate: Gate) -> int:
    threading.Thread(target=gate.wait, daemon=False).start()
    return os.getpid()


def large(size: int, gate: Gate | None = None) -> bytes:
    """A large result; the gate learns of it before it is sent."""
    result = b"x" * size
    if gate is not None:
        gate.announce()
    return result


def start_a_program(gate: Gate | None = None, *, new_session: bool = False) -> int:
    """Start a program that lives on for an hour; returns its pid."""
    program = subprocess.Popen(
        [sys.executable, "-S", "-c", "import time; time.sleep(3600)"],
        stdin=subprocess.DEVNULL,
        start_new_session=new_session,
    )
    program.returncode = 0  # Else its destructor warns that it runs.
    if gate is not None:
        gate.announce(program.pid)
    return program.pid


def start_a_program_and(gate: Gate, fault: str, *, new_session: bool = False) -> Any:
    """The same, and commit a fault. Two pids come to the gate: the worker's, the program's."""
    gate.announce()
    start_a_program(gate, new_session=new_session)
    return faults.perform(fault)


# ---------------------------------------------------------------------------- hanging


def hang_in_a_regular_expression() -> None:
    re.match(r"(a+)+$", "a" * 64 + "b")


def hang_in_a_loop() -> None:
    while True:
        pass


def hang_whatever_is_raised() -> None:
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            continue


def hang_in_c_with_the_gil() -> None:
    ctypes.PyDLL(None).pause()


# ---------------------------------------------------------------------------- pickling


def whereabouts(*_: Any) -> tuple[int, int]:
    """The process and the thread it runs in."""
    return os.getpid(), threading.get_ident()


def return_a_lock() -> Any:
    return threading.Lock()


def raise_with_a_lock() -> NoReturn:
    raise faults.Oops(threading.Lock())


def leave_a_session_and_hold(gate: Gate) -> None:
    """Have a fork in a session of its own, which holds every descriptor of the worker."""
    gate.announce()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        gate.announce()
        time.sleep(3600)
    gate.wait()


def hold_odd(gate: Gate, number: int) -> int:
    return gate.hold(number) if number % 2 else number


def echo_or(fault: str) -> str:
    """Commit a fault, unless it is "echo"."""
    if fault != "echo":
        faults.perform(fault)
    return fault


def raise_worker_died() -> NoReturn:
    raise WorkerDied("somewhere else", pid=1)


def compute_for(seconds: float) -> int:
    """Keep the main thread busy without a pause."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return os.getpid()


def fork_one_that_segfaults_and_die() -> NoReturn:
    pid = os.fork()
    if pid == 0:
        faults.segfaults()
    os.waitpid(pid, 0)
    os._exit(7)


def scribble_and_exit(notes: Path) -> NoReturn:
    """Write to the memory that is shared with the host, and go."""
    note(notes)
    for descriptor in faults.descriptors():
        if "memfd" in os.readlink(f"/proc/self/fd/{descriptor}"):
            os.pwrite(descriptor, b"garbage" * 100, 0)
    os._exit(1)


def sleep_and_note(path: Path, seconds: float) -> int:
    time.sleep(seconds)
    return note(path)


def fork_and_come_back(how: str) -> int:
    """Fork a copy that runs out of the task; returns its exit status."""
    pid = os.fork()
    if pid != 0:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if how == "exits with 3":
        sys.exit(3)
    if how == "raises":
        raise faults.Oops
    return 0


def is_imported(name: str) -> bool:
    return name in sys.modules
