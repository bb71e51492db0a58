"""How late does a task that sleeps past its time limit fail?

Counted from the instant that the task noted when it began, plus the limit.  A pool that counts
from the moment it sends the task may therefore be a little early, which shows as less than zero.
"""

import time

from benchmarks.figures.base import Conditions, Figure, Size, Unit, fresh, opened
from benchmarks.stamp import new_stamp
from benchmarks.subjects.base import Ability, Subject

LIMIT = 0.5


def lateness(subject: Subject, conditions: Conditions) -> float:
    with new_stamp() as stamp, opened(subject, conditions) as session:
        session.wait_ready()
        session.overrun(stamp, LIMIT)
        told = time.monotonic()
        return told - (stamp.take() + LIMIT)


FIGURES = (
    Figure(
        name="time-limit",
        title=f"Lateness of a time limit of {LIMIT:g} s on a task that sleeps",
        needs=Ability.LIMIT,
        prepare=fresh(lateness),
        unit=Unit.MILLISECONDS,
        full=Size(rounds=10, samples=3),
        quick=Size(rounds=3, samples=1),
    ),
)
