"""What a fork server imports first of all: it ties the server to its host.

A server looks for its host's end between requests, and so not while it hangs in an import, nor
while it is stopped. On Linux the kernel is told to send it SIGKILL at the end of its alive pipe,
whose other end nobody but the host holds.
"""

from __future__ import annotations

import contextlib
import os
import sys
from multiprocessing import forkserver
from types import FrameType
from typing import Any

from warmpool import early


def arguments() -> dict[str, Any]:
    """What the fork server that imports this was started with; nothing elsewhere."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is forkserver.main.__code__:
            return frame.f_locals
        frame = frame.f_back
    return {}


if (_alive := arguments().get("alive_r")) is not None:
    with contextlib.suppress(OSError):
        # Not its group, as a worker does: that is the host's.
        early.kill_at_end_of(_alive, os.getpid())
        early.leave_if_ended(_alive)
