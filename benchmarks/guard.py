"""No benchmark hangs and none leaves a process behind, whatever the pools that it measures do.

`enter` runs the same command a second time, in a child, and only watches it: a thread or an
alarm inside the run could itself be stuck behind the interpreter's lock.
`step` bounds one step inside the run, so that one stuck subject does not cost the others' figures.
"""

import ctypes
import faulthandler
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from benchmarks.processes import command, descendants

PR_SET_CHILD_SUBREAPER = 36
# Set in the environment of the child that does the measuring.
INSIDE = "WARMPOOL_BENCHMARKS_INSIDE"
EXIT_TIMEOUT = 124
# Fork servers and resource trackers leave by themselves once the run has gone.
LEAVING_TIME = 2.0


# A step that goes on after its end, in a `finally` that is stuck as well, is told again this often.
AGAIN_AFTER = 5.0


class StepTimeoutError(BaseException):
    """A step took longer than it may.

    No `Exception`: what waits for a task's failure shall not take this for it.
    """


@contextmanager
def step(seconds: float) -> Iterator[None]:
    """Raise `StepTimeoutError` here (main thread) if the block lasts longer.

    The time of a step inside another one does not count for the outer one.
    """

    def expire(_number: int, _frame: FrameType | None) -> None:
        raise StepTimeoutError(f"not done after {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, expire)
    outer, _ = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_AFTER)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        signal.setitimer(signal.ITIMER_REAL, outer, AGAIN_AFTER)


def enter(limit: float) -> None:
    """Return in a child that is ended after `limit` seconds; outside it, never return."""
    if os.environ.pop(INSIDE, None):
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        return
    # Orphans of the run become children of this process, where they can be found and ended.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # All start from the same state of compilation, and it is kept out of the source folders.
    # Where no bytecode is written, every new worker compiles what has none (a package under
    # test, never the standard library), and the start figures would measure that.
    with tempfile.TemporaryDirectory(prefix="warmpool-bench-") as cache:
        environment = {**os.environ, INSIDE: "1", "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        run = os.spawnve(os.P_NOWAIT, sys.executable, sys.orig_argv, environment)
        # Ctrl-C reaches both; this process waits for the run, and sweeps.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = _watch(run, limit)
        _sweep()
    sys.exit(code)


def end_all(pids: Iterable[int]) -> None:
    """End what a subject that is stuck has left, so that it disturbs no other figure."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _watch(run: int, limit: float) -> int:
    pidfd = os.pidfd_open(run)
    if not select.select([pidfd], [], [], limit)[0]:
        print(f"benchmarks: not done after {limit:g} s; stacks follow", file=sys.stderr, flush=True)
        os.kill(run, signal.SIGUSR1)
        select.select([pidfd], [], [], 1.0)
        os.kill(run, signal.SIGKILL)
        os.waitpid(run, 0)
        return EXIT_TIMEOUT
    code = os.waitstatus_to_exitcode(os.waitpid(run, 0)[1])
    return code if code >= 0 else 128 - code


def _sweep() -> None:
    """End what outlived the run, and name it."""
    until = time.monotonic() + LEAVING_TIME
    while _living() and time.monotonic() < until:
        time.sleep(0.02)
    for pid in (left := _living()):
        print(f"benchmarks: left behind: {pid} {command(pid)}", file=sys.stderr, flush=True)
    while left:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
        left = _living()


def _living() -> list[int]:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return descendants(os.getpid())
