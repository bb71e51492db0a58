"""A pool of many workers that have nothing to do: which part of a core and what memory is that?

Core: host and workers together, by the scheduler's own account, which is exact to the nanosecond.
(The clock ticks of /proc/PID/stat are too coarse for something that is meant to be nearly nothing.)

Memory: of the workers and of all other processes that came with them, for each worker; what
processes share is divided between them (PSS).
"""

import os
import threading
import time
from contextlib import suppress

from benchmarks.figures.base import Conditions, Figure, Size, Unit, fresh, opened
from benchmarks.processes import GONE, descendants, proportional_memory
from benchmarks.subjects.base import Ability, Opening, Subject


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


def core(subject: Subject, conditions: Conditions) -> float:
    with opened(subject, Opening(conditions.count, conditions.start_method)) as session:
        session.assemble(conditions.count)
        time.sleep(conditions.sample / 2)  # Until what comes up with the workers has settled.
        return _share(conditions.sample)


def memory(subject: Subject, conditions: Conditions) -> float:
    before = set(descendants(os.getpid()))
    with opened(subject, Opening(conditions.count, conditions.start_method)) as session:
        session.assemble(conditions.count)
        came = set(descendants(os.getpid())) - before
        return sum(map(proportional_memory, came)) / conditions.count


FIGURES = (
    Figure(
        name="idle",
        title="Share of a core that {amount:.0f} idle workers and their host take",
        needs=Ability.CALL,
        prepare=fresh(core),
        unit=Unit.PERCENT,
        full=Size(rounds=1, samples=1, amount=100, limit=60),
        quick=Size(rounds=1, samples=1, amount=5, limit=10, sample=0.5, peers=False),
    ),
    Figure(
        name="memory",
        title="Proportional memory of each of {amount:.0f} idle workers",
        needs=Ability.CALL,
        prepare=fresh(memory),
        unit=Unit.MEGABYTES,
        full=Size(rounds=1, samples=1, amount=100, limit=60),
        quick=Size(rounds=1, samples=1, amount=5, limit=10, peers=False),
    ),
)
