"""What runs in the workers.  Imports next to nothing, because every new worker pays for it."""

import os
import pickle
import signal
import time
from multiprocessing.connection import Connection

READY = b"ready"


def serve(connection: "Connection[bytes, bytes]") -> None:
    """The bare echo; after an empty message, run the pickled call that follows."""
    connection.send_bytes(READY)
    receive, send = connection.recv_bytes, connection.send_bytes
    while message := receive():
        send(message)
    function, arguments = pickle.loads(receive())
    function(*arguments)


def noop() -> None:
    """The smallest task."""


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
