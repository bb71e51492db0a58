"""What runs in the workers.  Imports next to nothing, because every new worker pays for it."""

import fcntl
import os
import pickle
import signal
import time
from multiprocessing.connection import Connection
from typing import Any

READY = b"ready"
DIED = b"died"
MEGABYTE = 1_000_000

_made: dict[tuple[str, int], Any] = {}


def serve(connection: "Connection[Any, Any]") -> None:
    """The bare echo; after an empty message, run the pickled call that follows."""
    connection.send_bytes(READY)
    receive, send = connection.recv_bytes, connection.send_bytes
    try:
        while message := receive():
            send(message)
    except EOFError:
        return  # The host was ended.
    function, arguments = pickle.loads(receive())
    function(*arguments)


def serve_forks(connection: "Connection[Any, Any]", seconds: float) -> None:
    """The same echo by a fork of this process for each message, after a preload of `seconds`."""
    preload(seconds)
    connection.send_bytes(READY)
    while True:
        message = connection.recv_bytes()
        call = None if message else pickle.loads(connection.recv_bytes())
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            if call is not None:
                connection.send_bytes(DIED)
            continue
        if call is None:
            connection.send_bytes(message)
        else:
            function, arguments = call
            function(*arguments)
        os._exit(0)


def serve_values(connection: "Connection[Any, Any]") -> None:
    """Take and give large values, bytes as they are and all else as `Connection` pickles it."""
    connection.send_bytes(READY)
    while True:
        direction, kind, megabytes = connection.recv()
        if direction == "give":
            value = made(kind, megabytes)
            connection.send_bytes(value) if kind == "bytes" else connection.send(value)
        else:
            value = connection.recv_bytes() if kind == "bytes" else connection.recv()
            connection.send_bytes(READY)
        del value  # What the next one needs should be free before it comes.


def preload(seconds: float) -> None:
    """Stand for imports and models: takes so long, once."""
    time.sleep(seconds)


def noop() -> None:
    """The smallest task."""


def same(item: int) -> int:
    """The smallest task of a map."""
    return item


def made(kind: str, megabytes: int) -> Any:
    """A large value, made once in each process: handing it over is measured, not making it."""
    value = _made.get((kind, megabytes))
    if value is None:
        size = megabytes * MEGABYTE
        if kind == "bytes":
            value = b"\xa5" * size  # Zeros would all be one page that the kernel shares.
        else:
            import numpy

            value = numpy.full(size // 8, 1.5)
        _made[kind, megabytes] = value
    return value


def length(value: Any) -> int:
    return len(value)


def mark(path: str) -> None:
    """Write this instant to `path`; CLOCK_MONOTONIC is the same clock in every process."""
    descriptor = os.open(path, os.O_WRONLY)
    os.pwrite(descriptor, time.monotonic_ns().to_bytes(8, "little"), 0)
    os.close(descriptor)


def die(path: str) -> None:
    """Mark the instant, then die as from the kernel's out-of-memory killer."""
    descriptor = os.open(path, os.O_WRONLY)
    pid = os.getpid()
    os.pwrite(descriptor, time.monotonic_ns().to_bytes(8, "little"), 0)
    os.kill(pid, signal.SIGKILL)


def oversleep(path: str, seconds: float) -> None:
    """Mark the start, then sleep past any limit."""
    mark(path)
    time.sleep(seconds)


def hold(path: str) -> None:
    """Be counted in `path` (a byte each), then wait there until the gate opens: see `gate`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b".")
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    os.close(descriptor)
