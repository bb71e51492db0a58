"""What can befall a worker, as functions that a worker runs.

A fault is known by its name, since only that travels. What it should look like from the host is
in the same table: :data:`FAULTS`.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import faulthandler
import multiprocessing
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from warmpool import child, forker, preloading, wire

_LONG = 3600


class Oops(Exception):
    """What a task or an initializer raises."""


class End(enum.Enum):
    """What a fault comes to, seen from the host."""

    RAISES = "raises"
    """The worker lives on, and says so."""
    DIES = "dies"
    HANGS = "hangs"
    """Only a time limit ends it."""
    BREAKS = "breaks the protocol"


# ---------------------------------------------------------------------------- the worker's inside


def _data() -> int:
    """The descriptor of this worker's data channel, wherever it is in its life."""
    endpoints = multiprocessing.current_process()._args[0]  # type: ignore[attr-defined]
    is_worker = isinstance(endpoints, child.Endpoints)
    main, name = (_real_main, "channel") if is_worker else (preloading.main, "link")
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    while frame is not None:
        if frame.f_code is main.__code__:  # type: ignore[attr-defined]
            end = frame.f_locals[name]
            return int((end._socket if is_worker else end).fileno())
        frame = frame.f_back  # type: ignore[assignment]
    assert is_worker
    return endpoints.data.fileno()


def write(data: bytes) -> None:
    """Write on the data channel behind the worker's back."""
    os.write(_data(), data)


# ---------------------------------------------------------------------------- raising


def raises() -> NoReturn:
    raise Oops("an ordinary mistake")


def calls_sys_exit() -> NoReturn:
    sys.exit(3)


# ---------------------------------------------------------------------------- dying


def _signals_itself(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(_LONG)


def dies_of_sigkill() -> None:
    _signals_itself(signal.SIGKILL)


def dies_of_sigterm() -> None:
    _signals_itself(signal.SIGTERM)


def exits_with_0() -> NoReturn:
    os._exit(0)


def exits_with_3() -> NoReturn:
    os._exit(3)


def aborts() -> None:
    os.abort()


def segfaults() -> None:
    faulthandler._sigsegv()  # type: ignore[attr-defined]


def dies_in_half_a_header() -> NoReturn:
    write(wire.header(wire.RETURNED, 1, 100)[:5])
    os._exit(4)


def dies_in_half_a_message() -> NoReturn:
    write(wire.header(wire.RETURNED, 1, 100) + b"half")
    os._exit(4)


def dies_in_a_message_of_2_gigabytes() -> NoReturn:
    write(wire.header(wire.RETURNED, 1, 1 << 31) + b"a little of it")
    os._exit(4)


def dies_and_leaves_a_fork_with_its_pipes() -> NoReturn:
    # The fork holds every descriptor of the worker: neither end of file nor sentinel tells.
    if os.fork() == 0:
        time.sleep(_LONG)
    os._exit(5)


def dies_and_leaves_a_program_with_its_pipes() -> NoReturn:
    for descriptor in descriptors():
        os.set_inheritable(descriptor, True)
    subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(3600)"], close_fds=False)
    os._exit(5)


def descriptors() -> Iterator[int]:
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            os.fstat(int(name))
            yield int(name)


# ---------------------------------------------------------------------------- hanging


def hangs_asleep() -> None:
    time.sleep(_LONG)


def hangs_with_the_gil() -> None:
    # PyDLL keeps the GIL: no other thread of the worker runs.
    ctypes.PyDLL(None).sleep(_LONG)


def is_stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def hangs_deaf_to_signals() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(_LONG)


def hangs_in_half_a_header() -> None:
    write(wire.header(wire.RETURNED, 1, 100)[:5])
    time.sleep(_LONG)


def hangs_in_half_a_message() -> None:
    write(wire.header(wire.RETURNED, 1, 100) + b"half")
    time.sleep(_LONG)


def hangs_in_a_message_of_2_gigabytes() -> None:
    write(wire.header(wire.RETURNED, 1, 1 << 31) + b"a little of it")
    time.sleep(_LONG)


def hangs_and_has_a_child() -> None:
    if os.fork() == 0:
        hangs_deaf_to_signals()
    hangs_deaf_to_signals()


# ---------------------------------------------------------------------------- breaking the protocol


def writes_garbage() -> None:
    write(b"Segmentation fault? No, just a stray print.\n")
    time.sleep(_LONG)


def writes_garbage_and_goes_on() -> None:
    write(b"\0\0\0\0")


def promises_too_much() -> None:
    write(struct.pack("<BQQ", wire.RETURNED, 1, 1 << 63))
    time.sleep(_LONG)


def answers_a_task_it_does_not_have() -> None:
    write(wire.header(wire.RETURNED, 1 << 40, 0))
    time.sleep(_LONG)


def greets_twice() -> None:
    write(2 * wire.header(wire.HELLO, 0, 0))
    time.sleep(_LONG)


def closes_its_descriptors() -> None:
    os.closerange(0, 1 << 16)
    time.sleep(_LONG)


# ---------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Fault:
    """One fault, and how it ends."""

    perform: Callable[[], Any]
    end: End
    exitcode: int | None = None

    @property
    def name(self) -> str:
        return self.perform.__name__


def _table(*faults: Fault) -> dict[str, Fault]:
    return {fault.name: fault for fault in faults}


FAULTS = _table(
    Fault(raises, End.RAISES),
    Fault(calls_sys_exit, End.RAISES),
    Fault(exits_with_0, End.DIES, 0),
    Fault(exits_with_3, End.DIES, 3),
    Fault(dies_of_sigkill, End.DIES, -signal.SIGKILL),
    Fault(dies_of_sigterm, End.DIES, -signal.SIGTERM),
    Fault(aborts, End.DIES, -signal.SIGABRT),
    Fault(segfaults, End.DIES, -signal.SIGSEGV),
    Fault(dies_in_half_a_header, End.DIES, 4),
    Fault(dies_in_half_a_message, End.DIES, 4),
    Fault(dies_in_a_message_of_2_gigabytes, End.DIES, 4),
    Fault(dies_and_leaves_a_fork_with_its_pipes, End.DIES, 5),
    Fault(dies_and_leaves_a_program_with_its_pipes, End.DIES, 5),
    Fault(hangs_asleep, End.HANGS),
    Fault(hangs_with_the_gil, End.HANGS),
    Fault(is_stopped, End.HANGS),
    Fault(hangs_deaf_to_signals, End.HANGS),
    Fault(hangs_in_half_a_header, End.HANGS),
    Fault(hangs_in_half_a_message, End.HANGS),
    Fault(hangs_in_a_message_of_2_gigabytes, End.HANGS),
    Fault(hangs_and_has_a_child, End.HANGS),
    Fault(writes_garbage, End.BREAKS),
    Fault(writes_garbage_and_goes_on, End.BREAKS),
    Fault(promises_too_much, End.BREAKS),
    Fault(answers_a_task_it_does_not_have, End.BREAKS),
    Fault(greets_twice, End.BREAKS),
    Fault(closes_its_descriptors, End.BREAKS),
)


def names(*ends: End) -> list[str]:
    """The faults that come to one of these ends; to any, if none is given."""
    return [name for name, fault in FAULTS.items() if not ends or fault.end in ends]


def perform(name: str) -> Any:
    """Commit a fault."""
    if (folder := os.environ.get(Orders.VARIABLE)) is not None:
        with contextlib.suppress(OSError):
            Path(folder, "moment").write_text(f"{time.monotonic()!r}")
    return FAULTS[name].perform()


# ---------------------------------------------------------------------------- orders


class Orders:
    """A fault that the next worker to come to a stage commits, and nobody after it.

    Args:
        folder: Where the order lies; all that travels to workers.
    """

    VARIABLE = "WARMPOOL_TEST_ORDERS"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def give(self, stage: str, fault: str) -> None:
        """In the test: give the order."""
        (self.folder / stage).write_text(fault)

    def taken_by(self, stage: str) -> int | None:
        """In the test: the pid of the worker that has taken it, None while nobody has."""
        taken = list(self.folder.glob(f"{stage}-taken-by-*"))
        return int(taken[-1].name.rpartition("-")[2]) if taken else None

    def seconds_since(self) -> float:
        """In the test: how long ago the last fault was committed, by whomever of its workers."""
        # That clock is the same for all processes.
        return time.monotonic() - float((self.folder / "moment").read_text())

    def clear(self) -> None:
        """In the test: forget all of them."""
        for path in self.folder.iterdir():
            path.unlink()

    def follow(self, stage: str) -> None:
        """In a worker: commit the fault that is ordered, if one is."""
        mine = self.folder / f"{stage}-taken-by-{os.getpid()}"
        try:
            # Renaming succeeds for one of several workers.
            (self.folder / stage).rename(mine)
        except FileNotFoundError:
            return
        perform(mine.read_text())


def initialize(orders: Orders) -> None:
    """An initializer that follows orders."""
    orders.follow("initializing")


_real_main = child.main


def main(endpoints: child.Endpoints, inherited: child.Inherited | None = None) -> None:
    """In place of ``warmpool.child.main``: follows orders before the worker's first message."""
    # As the real one does first of all. What a worker leaves behind before that, while __main__
    # is imported, is in the host's group, and no kill takes it along.
    os.setpgid(0, 0)
    Orders(Path(os.environ[Orders.VARIABLE])).follow("starting")
    _real_main(endpoints, inherited)


def worker(endpoints: child.Endpoints) -> None:
    """In place of ``warmpool.forker.worker``, which knows the real one."""
    main(endpoints, forker.inherited)


def own_task() -> int:
    """The number of the task that this worker runs."""
    frame = sys._getframe()
    while frame.f_code is not child._serve.__code__:
        assert frame.f_back is not None
        frame = frame.f_back
    number: int = frame.f_locals["task"]
    return number


def answer_and_write_garbage(value: Any) -> NoReturn:
    """A task that gives its whole answer and then garbage, in one write."""
    body = pickle.dumps(value)
    write(wire.header(wire.RETURNED, own_task(), len(body)) + body + b"and more")
    time.sleep(_LONG)
    raise AssertionError


def close_descriptors() -> int:
    """A task that closes everything and returns."""
    os.closerange(0, 1 << 16)
    return os.getpid()


def close_descriptors_and_open(path: Path) -> int:
    """The same, but leaves a file open under each number that it has closed."""
    os.closerange(3, 100)
    for _ in range(97):
        os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    return os.getpid()
