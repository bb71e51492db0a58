"""Does a task cost more where there are many workers, or many other tasks?

Each sample is a ratio already: the same pool's, or two pools' that take turns.
"""

import statistics
import time
from collections import deque
from typing import Any, cast

from benchmarks import tasks
from benchmarks.figures.base import Conditions, Figure, Size, Unit, fresh, opened
from benchmarks.gate import new_gate
from benchmarks.measure import timed
from benchmarks.subjects.base import PATIENCE, Ability, Opening, QueueSession, Subject

FEW = 2
TURNS = 6
CALLS = 50
WAITING = 10
TASKS = 1_000


def by_workers(subject: Subject, conditions: Conditions) -> float:
    """The round trip among many workers over the round trip among few."""
    method = conditions.start_method
    with (
        opened(subject, Opening(FEW, method)) as few,
        opened(subject, Opening(conditions.count, method)) as many,
    ):
        few.assemble(FEW)
        many.assemble(conditions.count)
        blocks: dict[int, list[float]] = {0: [], 1: []}
        for turn in range(2 * TURNS):
            session = (few, many)[turn % 2]
            timed(session.call, 5)
            blocks[turn % 2] += timed(session.call, CALLS)
        return statistics.median(blocks[1]) / statistics.median(blocks[0])


def by_queue(subject: Subject, conditions: Conditions) -> float:
    """A task's time while many wait over its time while few wait."""
    with opened(subject, Opening(FEW, conditions.start_method)) as opened_session:
        session = cast(QueueSession, opened_session)
        session.assemble(FEW)
        few: deque[Any] = deque(session.submit(tasks.noop) for _ in range(WAITING))
        _exchange(session, few)
        cost = _exchange(session, few)
        for handle in few:
            session.wait(handle)
        with new_gate() as gate:
            held = [session.submit(tasks.hold, gate.path) for _ in range(FEW)]
            gate.arrived(FEW, PATIENCE)
            many: deque[Any] = deque(session.submit(tasks.noop) for _ in range(conditions.count))
            gate.open()
            for handle in held:
                session.wait(handle)
            return _exchange(session, many) / cost


def _exchange(session: QueueSession, waiting: "deque[Any]") -> float:
    """The time of one task, from `TASKS` of them: one comes as one goes, and as many wait."""
    began = time.perf_counter()
    for _ in range(TASKS):
        session.wait(waiting.popleft())
        waiting.append(session.submit(tasks.noop))
    return (time.perf_counter() - began) / TASKS


FIGURES = (
    Figure(
        name="many-workers",
        title=f"Round trip among {{amount:.0f}} workers, times that among {FEW}",
        needs=Ability.CALL,
        prepare=fresh(by_workers),
        unit=Unit.TIMES,
        full=Size(rounds=1, samples=1, amount=200, limit=60),
        quick=Size(rounds=1, samples=1, amount=6, limit=10, peers=False),
        pinned=True,
    ),
    Figure(
        name="many-queued",
        title=f"A task's time while {{amount:,.0f}} wait, times that while {WAITING} wait",
        needs=Ability.QUEUE,
        prepare=fresh(by_queue),
        unit=Unit.TIMES,
        full=Size(rounds=1, samples=1, amount=100_000, limit=40),
        quick=Size(rounds=1, samples=1, amount=2_000, limit=10, peers=False),
        pinned=True,
    ),
)
