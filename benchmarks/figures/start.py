"""How soon is a worker ready, and how soon does a new pool give its first result?"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.figures.base import Block, Conditions, Figure, Size, Unit, fresh, opened
from benchmarks.subjects.base import Ability, Opening, Subject

START_METHODS = ("forkserver", "spawn", "fork")


def ready(subject: Subject, conditions: Conditions) -> float:
    began = time.perf_counter()
    with opened(subject, Opening(1, conditions.start_method)) as session:
        session.wait_ready()
        return time.perf_counter() - began


def first_result(subject: Subject, conditions: Conditions) -> float:
    began = time.perf_counter()
    with opened(subject, Opening(1, conditions.start_method)) as session:
        session.call()
        return time.perf_counter() - began


@contextmanager
def demanded(subject: Subject, conditions: Conditions) -> Iterator[Block]:
    """From a task in a pool that has no worker to the first message of one."""
    preload = conditions.amount if subject.preloads else None
    opening = Opening(1, conditions.start_method, fresh=True, demand=True, preload=preload)
    with opened(subject, opening) as session:
        session.call()

        def sample() -> float:
            session.vacate()
            began = time.perf_counter()
            session.call()
            return time.perf_counter() - began

        yield lambda samples: [sample() for _ in range(samples)]


FIGURES = (
    *(
        Figure(
            name=f"{name}-{method}",
            title=f"{title}, {method}",
            needs=needs,
            prepare=fresh(sample, rehearsed=True),
            unit=Unit.MILLISECONDS,
            full=Size(rounds=10, samples=1, seconds=12),
            quick=Size(rounds=2, samples=1, seconds=0.5, peers=False),
            start_method=method,
        )
        for name, title, needs, sample in (
            ("ready", "From nothing to one worker ready", Ability.READY, ready),
            (
                "first-result",
                "From nothing to a new pool's first result",
                Ability.CALL,
                first_result,
            ),
        )
        for method in START_METHODS
    ),
    Figure(
        name="worker",
        title="From a task to the first message of the new process that it gets",
        needs=Ability.DEMAND,
        prepare=demanded,
        unit=Unit.MILLISECONDS,
        full=Size(rounds=20, samples=5, amount=0, seconds=20),
        quick=Size(rounds=3, samples=3, amount=0, seconds=0.5),
    ),
    Figure(
        name="worker-preloaded",
        title="From a task to a new process that shares a preload of {amount:g} s",
        needs=Ability.PRELOAD,
        prepare=demanded,
        unit=Unit.MILLISECONDS,
        full=Size(rounds=20, samples=5, amount=3, seconds=20),
        quick=Size(rounds=3, samples=3, amount=0.3, seconds=0.5),
    ),
)
