"""A pool of many workers that have nothing to do: which part of a core does that take?

Host and workers together, by the scheduler's own account, which is exact to the nanosecond. (The
clock ticks of /proc/PID/stat are too coarse for something that is meant to be nearly nothing.)
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from benchmarks.figures.base import Block, Conditions, Figure, Size, Unit, opened
from benchmarks.processes import GONE, descendants
from benchmarks.subjects.base import Ability, Subject

WORKERS = 100
SECONDS = 10.0


def _used() -> float:
    """Seconds of a core that this process and all below it have used so far.

    Without this thread, which does nothing but look, and takes longer for that than all the rest.
    """
    used, this = 0, str(threading.get_native_id())
    for pid in (os.getpid(), *descendants(os.getpid())):
        with suppress(*GONE):
            for thread in os.listdir(f"/proc/{pid}/task"):
                if thread == this:
                    continue
                with suppress(*GONE), open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                    used += int(file.read().split()[0])
    return used / 1e9


def _share(seconds: float) -> float:
    before, begun = _used(), time.monotonic()
    time.sleep(seconds)
    after, ended = _used(), time.monotonic()
    return (after - before) / (ended - begun)


def _sample(subject: Subject, conditions: Conditions) -> float:
    with opened(subject, conditions, WORKERS) as session:
        session.wait_ready()
        time.sleep(3.0)  # Until what comes up with the workers has settled.
        return _share(SECONDS)


@contextmanager
def idle(subject: Subject, conditions: Conditions) -> Iterator[Block]:
    # Opened for each sample: idle, the subjects would all be there at the same time.
    yield lambda samples: [_sample(subject, conditions) for _ in range(samples)]


FIGURES = (
    Figure(
        name="idle",
        title=f"Share of a core that {WORKERS} idle workers and their host take",
        needs=Ability.CALL,
        prepare=idle,
        unit=Unit.PERCENT,
        full=Size(rounds=3, samples=1),
        quick=Size(rounds=1, samples=1),
    ),
)
