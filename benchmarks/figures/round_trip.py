"""How long does one small task take, from `submit` to its result, in a pool that is warm?"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from benchmarks.figures.base import Block, Conditions, Figure, Size, Unit, opened
from benchmarks.measure import timed
from benchmarks.subjects.base import Ability, Opening, Subject

# Unrecorded calls before each block: the others' blocks have emptied this one's caches.
AGAIN = 20


@contextmanager
def prepare(subject: Subject, conditions: Conditions) -> Iterator[Block]:
    with opened(subject, Opening(1, conditions.start_method)) as session:
        session.wait_ready()

        def block(samples: int) -> list[float]:
            timed(session.call, AGAIN)
            return timed(session.call, samples)

        yield block


FREE = Figure(
    name="round-trip",
    title="Warm round trip of a no-op task, 1 worker, processes free",
    needs=Ability.CALL,
    prepare=prepare,
    unit=Unit.MICROSECONDS,
    # Short blocks: free processes settle on one core or on two for a block at a time, and that
    # makes more of a difference than anything else.
    full=Size(rounds=60, samples=200, seconds=30),
    quick=Size(rounds=20, samples=50, seconds=1, peers=False),
)
PINNED = replace(
    FREE,
    name="round-trip-pinned",
    title="Warm round trip of a no-op task, 1 worker, all on one core",
    pinned=True,
    quick=Size(rounds=20, samples=50, seconds=1),
)
SPAWNED = replace(
    PINNED,
    name="round-trip-spawn",
    title="Warm round trip of a no-op task, spawned worker, on one core",
    start_method="spawn",
    full=Size(rounds=20, samples=200, seconds=15),
    quick=Size(rounds=4, samples=50, seconds=1, peers=False),
)
FIGURES = (FREE, PINNED, SPAWNED)
