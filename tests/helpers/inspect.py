"""What a worker can tell of itself."""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from tests.helpers import tasks
from tests.helpers.gate import Gate


def describe() -> dict[str, Any]:
    """What a task sees of its process."""
    process = multiprocessing.current_process()
    return {
        "pid": os.getpid(),
        "group": os.getpgrp(),
        "session": os.getsid(0),
        "daemon": process.daemon,
        "name": process.name,
        "main thread": threading.current_thread() is threading.main_thread(),
        "new threads are daemonic": threading.Thread().daemon,
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "stdin": os.readlink("/proc/self/fd/0"),
        "SIGINT": signal.getsignal(signal.SIGINT),
        "SIGTERM": signal.getsignal(signal.SIGTERM),
        "SIGUSR1": signal.getsignal(signal.SIGUSR1),
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "wakeup": signal.set_wakeup_fd(-1),
        "cwd": os.getcwd(),
        "path": list(sys.path),
    }


_noted: dict[str, int] = {}


def note_thread() -> None:
    """An initializer that notes its thread."""
    _noted["initializer"] = threading.get_ident()
    _noted["main"] = int(threading.current_thread() is threading.main_thread())


def noted_threads() -> tuple[dict[str, int], int]:
    """What the initializer noted, and the thread of this task."""
    return dict(_noted), threading.get_ident()


def note_at_exit(path: Path) -> int:
    """Have hooks of both kinds note that they ran."""
    atexit.register(tasks.note, path, "atexit")
    multiprocessing.util.Finalize(None, tasks.note, args=(path, "Finalize"), exitpriority=1)
    return os.getpid()


def fork_and_return(gate: Gate) -> tuple[str, int]:
    """A careless fork: the child returns through the worker's loop like its parent."""
    pid = os.fork()
    if pid == 0:
        gate.announce()
        return "the child", os.getpid()
    return "the parent", pid


def fork_and_raise(gate: Gate) -> tuple[str, int]:
    """The same with an exception."""
    pid = os.fork()
    if pid == 0:
        gate.announce()
        raise ValueError("in the child")
    return "the parent", pid


_given: list[Any] = []


def be_given(*primitives: Any) -> None:
    _given.extend(primitives)


def use_what_was_given(number: int) -> int:
    """Add to the value, pass the barrier, put into the queue."""
    value, barrier, queue = _given
    with value.get_lock():
        value.value += number
    barrier.wait(20)
    queue.put(number)
    return int(value.value)


def given() -> list[Any]:
    """What the initializer was given."""
    return _given
