"""How late does a task that sleeps past its time limit fail?

Counted from the instant that the task noted when it began, plus the limit.  A pool that counts
from the moment it sends the task may therefore be a little early, which shows as less than zero.

Several tasks sleep at the same time, each in a worker of its own, and begin one after the other:
their limits pass one by one, so each of them finds the machine as quiet as if it were alone.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.figures.base import Block, Conditions, Figure, Size, Unit, opened
from benchmarks.stamp import Stamp, new_stamp
from benchmarks.subjects.base import PATIENCE, Ability, Opening, Session, Subject

LIMIT = 0.5
# Between two limits: for the end of one worker and the start of its replacement.
GAP = 0.06


class Lane(threading.Thread):
    """One task beyond its limit, and how late its caller was told."""

    def __init__(self, number: int, session: Session, stamp: Stamp) -> None:
        super().__init__(daemon=True)
        self._number, self._session, self._stamp = number, session, stamp
        self._lateness: float | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._session.overrun(self._number, self._stamp, LIMIT)
            told = time.monotonic()
            self._lateness = told - (self._stamp.take() + LIMIT)
        except BaseException as error:
            self._error = error

    def result(self) -> float:
        self.join(PATIENCE)
        if self._lateness is None:
            raise self._error or RuntimeError("the caller was never told")
        return self._lateness


def latenesses(subject: Subject, conditions: Conditions, lanes: int) -> list[float]:
    with ExitStack() as stack:
        stamps = [stack.enter_context(new_stamp()) for _ in range(lanes)]
        opening = Opening(lanes, conditions.start_method)
        session = stack.enter_context(opened(subject, opening))
        session.assemble(lanes)
        threads = [Lane(lane, session, stamp) for lane, stamp in enumerate(stamps)]
        for thread in threads:
            thread.start()
            time.sleep(GAP)
        return [thread.result() for thread in threads]


@contextmanager
def prepare(subject: Subject, conditions: Conditions) -> Iterator[Block]:
    yield lambda samples: latenesses(subject, conditions, samples)


FIGURES = (
    Figure(
        name="time-limit",
        title=f"Lateness of a time limit of {LIMIT:g} s on a task that sleeps",
        needs=Ability.LIMIT,
        prepare=prepare,
        unit=Unit.MILLISECONDS,
        full=Size(rounds=10, samples=10, seconds=110),
        quick=Size(rounds=1, samples=3, seconds=1, limit=4),
    ),
)
