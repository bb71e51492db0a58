"""Runs a command while every core is kept busy: ``python -m tests.busy COMMAND [ARGUMENT …]``.

What is right by luck on an idle machine fails here. The exit status is the command's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import FrameType
from typing import NoReturn


def _spin(core: int, parent: int) -> NoReturn:
    os.sched_setaffinity(0, {core})
    # Looks up now and then, so that it ends also when its parent was killed.
    while os.getppid() == parent:
        for _ in range(1_000_000):
            pass
    os._exit(0)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def main(command: list[str]) -> int:
    """Run the command and return its exit status as a shell would."""
    if not command:
        print("usage: python -m tests.busy COMMAND [ARGUMENT …]", file=sys.stderr)
        return 2
    spinners = []
    signal.signal(signal.SIGTERM, _leave)
    parent = os.getpid()
    try:
        for core in sorted(os.sched_getaffinity(0)):
            if (pid := os.fork()) == 0:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                _spin(core, parent)
            spinners.append(pid)
        with subprocess.Popen(command) as process:
            try:
                status = process.wait()
            except KeyboardInterrupt:
                # The command got the Ctrl-C as well, and decides.
                status = process.wait()
            except SystemExit:
                process.terminate()
                raise
        return status if status >= 0 else 128 - status
    finally:
        for pid in spinners:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
