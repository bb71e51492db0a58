"""A worker is killed in the middle of a task.  When does the caller know, when does it go on?

Both count from the instant that the worker noted right before it killed itself.
"""

import time
from dataclasses import replace

from benchmarks import guard
from benchmarks.figures.base import Conditions, Figure, Size, Unit, fresh, opened
from benchmarks.stamp import new_stamp
from benchmarks.subjects.base import Ability, Opening, Subject


def settled(subject: Subject, conditions: Conditions) -> float:
    """To the failed future.  A new pool each time: for some a death is the end of the pool."""
    opening = Opening(1, conditions.start_method)
    with new_stamp() as stamp, opened(subject, opening) as session:
        session.wait_ready()
        with guard.step(conditions.limit):
            session.die(stamp)
        known = time.monotonic()
        return known - stamp.take()


def replaced(subject: Subject, conditions: Conditions) -> float:
    """To the next task's result.  A new pool each time: repeated deaths may be slowed down."""
    preload = conditions.amount or None
    opening = Opening(1, conditions.start_method, preload=preload)
    with new_stamp() as stamp, opened(subject, opening) as session:
        session.wait_ready()
        with guard.step(conditions.limit):
            session.die(stamp)
            session.revive()
            session.call()
        answered = time.monotonic()
        return answered - stamp.take()


DEATH = Figure(
    name="death",
    title="From a worker's SIGKILL in a task to its settled future",
    needs=Ability.DEATH,
    prepare=fresh(settled),
    unit=Unit.MILLISECONDS,
    full=Size(rounds=50, samples=1, seconds=40, limit=12),
    quick=Size(rounds=4, samples=1, seconds=1, limit=0.7),
)
REPLACEMENT = replace(
    DEATH,
    name="replacement",
    title="From a worker's SIGKILL to the next task's result, 1 worker",
    needs=Ability.REPLACE,
    prepare=fresh(replaced),
    full=Size(rounds=20, samples=1, seconds=40, limit=12),
    quick=Size(rounds=2, samples=1, seconds=1, limit=2, peers=False),
)
PRELOADED = replace(
    REPLACEMENT,
    name="replacement-preloaded",
    title="From SIGKILL to the next result, sharing a preload of {amount:g} s",
    needs=Ability.PRELOAD,
    full=Size(rounds=5, samples=1, amount=3, seconds=25, limit=12),
    quick=Size(rounds=2, samples=1, amount=0.3, seconds=1, limit=2, peers=False),
)
FIGURES = (DEATH, REPLACEMENT, PRELOADED)
