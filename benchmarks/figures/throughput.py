"""How many small tasks per second get through, when one thread hands them all over at once?"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.figures.base import Block, Conditions, Figure, Size, Unit, opened
from benchmarks.subjects.base import Ability, Subject

TASKS = 20_000
WORKERS = 2
AGAIN = 200


@contextmanager
def prepare(subject: Subject, conditions: Conditions) -> Iterator[Block]:
    with opened(subject, conditions, WORKERS) as session:
        session.wait_ready()

        def block(samples: int) -> list[float]:
            session.flood(AGAIN)
            return [one_flood() for _ in range(samples)]

        def one_flood() -> float:
            began = time.perf_counter()
            session.flood(TASKS)
            return (time.perf_counter() - began) / TASKS

        yield block


FIGURES = (
    Figure(
        name="throughput",
        title=f"Throughput, {TASKS:,} no-op tasks from one thread, {WORKERS} workers",
        needs=Ability.FLOOD,
        prepare=prepare,
        unit=Unit.PER_SECOND,
        full=Size(rounds=10, samples=1),
        quick=Size(rounds=2, samples=1),
    ),
)
