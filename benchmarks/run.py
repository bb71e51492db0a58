"""One figure: open the subjects, take their blocks in turn, close them."""

from collections.abc import Iterable
from contextlib import ExitStack

from benchmarks import guard
from benchmarks.figures.base import Block, Conditions, Figure, Size
from benchmarks.measure import Reading, rotated
from benchmarks.processes import pinned
from benchmarks.subjects.base import Subject

# A subject that needs longer for one block, or to open or close, is out of this figure.
STEP_LIMIT = 30.0


def measure(
    figure: Figure, subjects: Iterable[Subject], conditions: Conditions, size: Size
) -> list[Reading]:
    """A reading per subject that can; blocks alternate, so that noise hits all alike."""
    able = [
        subject
        for subject in subjects
        if figure.needs in subject.abilities and conditions.start_method in subject.start_methods
    ]
    runners = [_Runner(figure, subject, conditions) for subject in able]
    try:
        for runner in runners:
            runner.open()
        with pinned(conditions.core):
            for turn in range(size.rounds):
                for runner in rotated(runners, turn):
                    runner.take(size.samples)
    finally:
        for runner in runners:
            runner.close()
    return [runner.reading for runner in runners]


class _Runner:
    """One subject in one figure.  Its failure is recorded and ends its part, not the others'."""

    def __init__(self, figure: Figure, subject: Subject, conditions: Conditions) -> None:
        self.reading = Reading(subject.name)
        self._prepared = figure.prepare(subject, conditions)
        self._stack = ExitStack()
        self._block: Block | None = None

    def open(self) -> None:
        try:
            with guard.step(STEP_LIMIT):
                self._block = self._stack.enter_context(self._prepared)
        except Exception as error:
            self._fail("open", error)

    def take(self, samples: int) -> None:
        if self._block is None:
            return
        try:
            with guard.step(STEP_LIMIT):
                self.reading.blocks.append(self._block(samples))
        except Exception as error:
            self._fail("measure", error)

    def close(self) -> None:
        try:
            with guard.step(STEP_LIMIT):
                self._stack.close()
        except Exception as error:
            self._fail("close", error)

    def _fail(self, stage: str, error: Exception) -> None:
        self._block = None
        self.reading.error = self.reading.error or f"{stage}: {type(error).__name__}: {error}"
