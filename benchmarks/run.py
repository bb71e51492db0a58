"""One figure: open the subjects, take their blocks in turn, close them."""

import os
import time
from collections.abc import Iterable
from contextlib import ExitStack

from benchmarks import guard
from benchmarks.figures.base import Block, Conditions, Figure, Size
from benchmarks.measure import Reading, in_turns
from benchmarks.processes import command, descendants, pinned
from benchmarks.subjects.base import NotAvailableError, Subject

# What `multiprocessing` starts once for all pools of a program and does not start again.
SHARED = ("resource_tracker", "semaphore_tracker", "forkserver")
# A machine that is busy with other things may need as long until a pool is open: no fault of the
# pool's, and no part of the limit.
OPENING = 15.0


def measure(
    figure: Figure, subjects: Iterable[Subject], conditions: Conditions, size: Size
) -> list[Reading]:
    """A reading per subject that can; blocks alternate, so that noise hits all alike."""
    able = [
        subject
        for subject in subjects
        if figure.needs in subject.abilities and conditions.start_method in subject.start_methods
    ]
    before = set(descendants(os.getpid()))
    runners = [_Runner(figure, subject, conditions, size) for subject in able]
    share = size.seconds / max(1, len(runners))
    try:
        for runner in runners:
            runner.open()
        with pinned(conditions.core):
            for turn in range(size.rounds):
                for runner in in_turns(runners, turn):
                    # At least one block each, however slow.
                    if not turn or runner.spent < share:
                        runner.take(size.samples)
    finally:
        for runner in runners:
            runner.close()
    left = [pid for pid in descendants(os.getpid()) if pid not in before]
    guard.end_all(pid for pid in left if not any(name in command(pid) for name in SHARED))
    return [runner.reading for runner in runners]


class _Runner:
    """One subject in one figure.  Its failure is recorded and ends its part, not the others'."""

    def __init__(
        self, figure: Figure, subject: Subject, conditions: Conditions, size: Size
    ) -> None:
        self.reading = Reading(subject.name)
        self.spent = 0.0
        self._limit = size.limit + OPENING
        self._prepared = figure.prepare(subject, conditions)
        self._stack = ExitStack()
        self._block: Block | None = None

    def open(self) -> None:
        try:
            with guard.step(self._limit):
                self._block = self._stack.enter_context(self._prepared)
        except NotAvailableError as reason:
            self.reading.absent = str(reason)
        except guard.StepTimeoutError as error:
            self.reading.never = str(error)
        except Exception as error:
            self._fail("open", error)

    def take(self, samples: int) -> None:
        if self._block is None:
            return
        began = time.monotonic()
        try:
            with guard.step(self._limit):
                self.reading.blocks.append(self._block(samples))
        except NotAvailableError as reason:
            self.reading.absent, self._block = str(reason), None
        except guard.StepTimeoutError as error:
            self.reading.never, self._block = str(error), None
        except Exception as error:
            self._fail("measure", error)
        self.spent += time.monotonic() - began

    def close(self) -> None:
        try:
            self._stack.close()
        except Exception as error:
            self._fail("close", error)

    def _fail(self, stage: str, error: Exception) -> None:
        self._block = None
        self.reading.error = self.reading.error or f"{stage}: {type(error).__name__}: {error}"
