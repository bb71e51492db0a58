"""What runs in a template: preload, once, and then fork a worker at each request.

A template is an interpreter of its own, so nothing of the host's is in it: no descriptor, lock or
thread. It must not have threads when it forks: what they hold at that moment is held for ever in
the worker. So it has none of its own, and if the preload has left any that do not end for a fork,
it forks nothing.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import socket
import sys
import threading
import time
from multiprocessing.connection import Connection

from warmpool import early, forker, payload, wire

LONGEST_ERROR = 1 << 20
"""Bytes that the host is told of what a preload has raised."""
END_OF_THREADS = 0.1
"""Seconds that threads have to be gone which a hook of forks has ended."""


class Boot:
    """What a template gets.

    Attributes:
        early: As a worker's; unpickled first of all.
        link: Its end.
        title: The title of the process.

    What to preload comes over the link, however long it is: an argument that exceeds a pipe's
    buffer would keep its writer waiting for an interpreter that hangs before it reads.
    """

    __slots__ = ("early", "link", "title")

    def __init__(self, early: early.Early | None, link: Connection, title: str) -> None:
        self.early = early
        self.link = link
        self.title = title


def main(boot: Boot) -> None:
    """The target of the template's ``Process``."""
    installed = early.installed()
    own_pid = os.getpid()
    link = socket.socket(fileno=os.dup(boot.link.fileno()))
    link.settimeout(None)  # Whatever __main__ has made the default.
    boot.link.close()
    _say(link, wire.HELLO)
    failure = None
    try:
        if (preload := _receive(link)) is None:
            return  # Way out: the host has given this template up, or is gone.
        if preload:
            payload.load_initializer(preload).run()
    except BaseException as error:
        failure = error
    if os.getpid() != own_pid:
        # Way out: of a fork that the preload has made, and that came back to where only the
        # template may go on.
        os._exit(1 if failure is not None else 0)
    if failure is not None:
        _say(link, wire.INITIALIZER_RAISED, _dump(failure))
        return  # Way out: as any interpreter, within the patience of the host.
    _settle(boot.title)
    if threads := _threads_beside_forks():
        names = (thread or "?" for thread in threads)
        _say(link, wire.UNFIT, "\0".join(names).encode("utf-8", "backslashreplace"))
        return  # Way out: the same.

    def serve() -> int:
        forking = forker.Forker(link, installed, is_ahead=True)
        _say(link, wire.READY)
        forking.serve()
        return 0

    # Way out: the host closed the link, or is gone, and so is the last worker.
    forker.end_with(serve)


def _say(link: socket.socket, kind: int, body: bytes = b"") -> None:
    # BrokenPipeError: the host is gone, or has given this template up; it ends with the link.
    with contextlib.suppress(BrokenPipeError):
        link.sendall(wire.header(kind, 0, len(body)) + body)


def _receive(link: socket.socket) -> bytes | bytearray | None:
    """What to preload, pickled, empty for nothing; None: there is nothing to come."""
    reader = wire.Reader(wire.TO_WORKER)
    while data := link.recv(1 << 16):
        messages = reader.feed(data)
        if messages:
            body: bytes | bytearray = messages[0][2]
            return body
    return None


def _dump(error: BaseException) -> bytes:
    body = payload.dump_error(error, payload.dumps)
    if len(body) > LONGEST_ERROR:
        name = type(error).__name__
        body = payload.dump_error(RuntimeError(f"{name}, too long to be told"), payload.dumps)
    return body


def _settle(title: str) -> None:
    """Make what there is fit to be shared by copies."""
    # Imported here, workers need not do it: their titles come with their first heartbeats.
    with contextlib.suppress(ImportError):
        importlib.import_module("setproctitle").setproctitle(title)
    for stream in (sys.stdout, sys.stderr):
        # Else each worker would write what the preload has printed.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()
    # Its writing to an object's head, when it comes by, would copy the page in each worker; and
    # garbage that it finds there would be finalized in each.
    gc.collect()
    gc.freeze()


def _threads_beside_forks() -> list[str]:
    """The names of the threads beside this one at the moment of a fork."""
    if threading.active_count() > 1 or not _other_threads():
        return _other_threads()
    # Of a library's own. One that knows of forks may end them by its hook before each, and begin
    # anew when it is next used: OpenBLAS does, which starts them as numpy is imported. The way to
    # know is to fork.
    forker.fork_on_trial()
    give_up_at = time.monotonic() + END_OF_THREADS
    # Who has waited for a thread's end may see it listed a moment longer.
    while (threads := _other_threads()) and time.monotonic() < give_up_at:
        select.select((), (), (), 0.001)
    return threads


def _other_threads() -> list[str]:
    """The names of the threads beside this one, those that Python does not know included."""
    known = {
        thread.native_id: thread.name
        for thread in threading.enumerate()
        if thread is not threading.current_thread()
    }
    try:
        tasks = [int(task) for task in os.listdir("/proc/self/task")]
    except OSError:
        return sorted(known.values())  # No such file system here.
    own = threading.get_native_id()
    return sorted(known.get(task) or _comm(task) for task in tasks if task != own)


def _comm(task: int) -> str:
    try:
        with open(f"/proc/self/task/{task}/comm", errors="replace") as file:
            name = file.read().strip()
    except OSError:
        name = "?"
    return f"{name} (native)"
