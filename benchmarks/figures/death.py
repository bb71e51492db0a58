"""A worker is killed in the middle of a task.  When does the caller know, when does it go on?

Both count from the instant that the worker noted right before it killed itself.
"""

import time

from benchmarks.figures.base import Conditions, Figure, Size, Unit, fresh, opened
from benchmarks.stamp import new_stamp
from benchmarks.subjects.base import Ability, Subject


def settled(subject: Subject, conditions: Conditions) -> float:
    """To the failed future.  A new pool each time: for some a death is the end of the pool."""
    with new_stamp() as stamp, opened(subject, conditions) as session:
        session.wait_ready()
        session.die(stamp)
        known = time.monotonic()
        return known - stamp.take()


def replaced(subject: Subject, conditions: Conditions) -> float:
    """To the next task's result.  A new pool each time: repeated deaths may be slowed down."""
    with new_stamp() as stamp, opened(subject, conditions) as session:
        session.wait_ready()
        session.die(stamp)
        session.revive()
        session.call()
        answered = time.monotonic()
        return answered - stamp.take()


FIGURES = (
    Figure(
        name="death",
        title="From a worker's SIGKILL in a task to its settled future",
        needs=Ability.DEATH,
        prepare=fresh(settled),
        unit=Unit.MILLISECONDS,
        full=Size(rounds=20, samples=5),
        quick=Size(rounds=10, samples=2),
    ),
    Figure(
        name="replacement",
        title="From a worker's SIGKILL to the next task's result, 1 worker",
        needs=Ability.REPLACE,
        prepare=fresh(replaced),
        unit=Unit.MILLISECONDS,
        full=Size(rounds=10, samples=3),
        quick=Size(rounds=5, samples=1),
    ),
)
