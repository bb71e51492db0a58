"""What a fork server imports first of all: it ties the server to its host.

A server looks for its host's end between requests, and so not while it hangs in an import, nor
while it is stopped. On Linux the kernel is told to send it SIGKILL at the end of its alive pipe,
whose other end nobody but the host holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
from multiprocessing import forkserver
from types import FrameType
from typing import Any


def arguments() -> dict[str, Any]:
    """What the fork server that imports this was started with; nothing elsewhere."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is forkserver.main.__code__:
            return frame.f_locals
        frame = frame.f_back
    return {}


def _die_with_the_host(alive: int) -> None:
    # As early does for workers. But the server is in its host's group, which is to live on.
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(alive, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(alive, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(alive, fcntl.F_GETFL)
        fcntl.fcntl(alive, fcntl.F_SETFL, flags | os.O_ASYNC)
        # What ended before that sends no signal.
        poll = select.poll()
        poll.register(alive, 0)
        if poll.poll(0):
            os._exit(1)


if (_alive := arguments().get("alive_r")) is not None:
    with contextlib.suppress(OSError):
        _die_with_the_host(_alive)
