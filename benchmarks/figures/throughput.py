"""How many small tasks per second get through, when one thread hands them all over at once?"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.figures.base import Block, Conditions, Figure, Size, Unit, opened
from benchmarks.subjects.base import Ability, Opening, Session, Subject

WORKERS = 2
CHUNK = 1_000


def pace(work: Callable[[int], None], count: int, trial: int, seconds: float) -> float:
    """How long each of `count` tasks took, or of as many as take about `seconds`."""
    began = time.perf_counter()
    work(trial)
    each = (time.perf_counter() - began) / trial
    count = min(count, int(seconds / each))
    if count <= trial:
        return each
    began = time.perf_counter()
    work(count)
    return (time.perf_counter() - began) / count


@contextmanager
def flooded(
    subject: Subject, conditions: Conditions, *, fresh: bool = False, trial: int = 200
) -> Iterator[Block]:
    opening = Opening(WORKERS, conditions.start_method, fresh=fresh)
    with opened(subject, opening) as session:
        session.assemble(WORKERS)
        yield lambda samples: [
            pace(session.flood, conditions.count, trial, conditions.sample) for _ in range(samples)
        ]


@contextmanager
def mapped(subject: Subject, conditions: Conditions) -> Iterator[Block]:
    with opened(subject, Opening(WORKERS, conditions.start_method)) as session:
        session.assemble(WORKERS)
        yield lambda samples: [
            pace(partial(_map, session), conditions.count, CHUNK, conditions.sample)
            for _ in range(samples)
        ]


def _map(session: Session, count: int) -> None:
    session.map(count, CHUNK)


FIGURES = (
    Figure(
        name="throughput",
        title=f"Throughput, {{amount:,.0f}} no-op tasks from one thread, {WORKERS} workers",
        needs=Ability.FLOOD,
        prepare=flooded,
        unit=Unit.PER_SECOND,
        full=Size(rounds=4, samples=1, amount=20_000, seconds=60),
        quick=Size(rounds=2, samples=1, amount=1_000, seconds=2, sample=0.3),
    ),
    Figure(
        name="map",
        title=f"map over {{amount:,.0f}} numbers in chunks of {CHUNK:,}, {WORKERS} workers",
        needs=Ability.MAP,
        prepare=mapped,
        unit=Unit.PER_SECOND,
        full=Size(rounds=10, samples=1, amount=500_000, seconds=30),
        quick=Size(rounds=2, samples=1, amount=50_000, seconds=1, sample=0.3),
    ),
    *(
        Figure(
            name=f"fresh-{method}",
            title=f"A fresh warm process for each of {{amount:,.0f}} tasks, {WORKERS} workers, "
            f"{method}",
            needs=Ability.FRESH,
            # More than the workers that are warm already, which say nothing of the others.
            prepare=partial(flooded, fresh=True, trial=3 * WORKERS),
            unit=Unit.PER_SECOND,
            full=Size(rounds=4, samples=1, amount=400, seconds=40),
            quick=Size(
                rounds=2,
                samples=1,
                amount=16,
                seconds=1,
                sample=0.2,
                limit=5,
                peers=method == "forkserver",
            ),
            start_method=method,
        )
        for method in ("forkserver", "fork")
    ),
)
