"""How soon is a worker ready, and how soon does a new pool give its first result?"""

import time

from benchmarks.figures.base import Conditions, Figure, Size, Unit, fresh, opened
from benchmarks.subjects.base import Ability, Subject

START_METHODS = ("forkserver", "spawn", "fork")


def ready(subject: Subject, conditions: Conditions) -> float:
    began = time.perf_counter()
    with opened(subject, conditions) as session:
        session.wait_ready()
        return time.perf_counter() - began


def first_result(subject: Subject, conditions: Conditions) -> float:
    began = time.perf_counter()
    with opened(subject, conditions) as session:
        session.call()
        return time.perf_counter() - began


FIGURES = tuple(
    Figure(
        name=f"{name}-{method}",
        title=f"{title}, {method}",
        needs=needs,
        prepare=fresh(sample),
        unit=Unit.MILLISECONDS,
        full=Size(rounds=10, samples=3),
        quick=Size(rounds=4, samples=1),
        start_method=method,
    )
    for name, title, needs, sample in (
        ("ready", "From nothing to one worker ready", Ability.READY, ready),
        ("first-result", "From nothing to a new pool's first result", Ability.CALL, first_result),
    )
    for method in START_METHODS
)
