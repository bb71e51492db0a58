"""Knows of each task what was asked, done and answered, and whether that fits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation.jobs import JobError
from tests.simulation.machine import Violation
from warmpool import errors
from warmpool.future import TaskFuture
from warmpool.tasks import FREE_RUNS

if TYPE_CHECKING:
    from tests.simulation.world import World

LATENESS = 1.5
"""Seconds by which an answer that is due at a time may be late: the stack that is asked for, a turn
that is met half done."""


@dataclass(eq=False, slots=True)
class Record:
    """What is known of a task."""

    number: int
    size: int
    raises: bool
    options: dict[str, Any]
    is_alone: bool
    """Whether it is a task of its own, and not one of a chunk."""
    future: TaskFuture[Any] | None = None
    begun: list[int] = field(default_factory=list)
    """The workers in which it has begun."""
    ended: list[int] = field(default_factory=list)
    was_said: bool = False
    """Whether its whole answer was written just before its worker died."""
    cancelled: bool = False
    killed: bool = False
    killed_softly: bool = False
    answers: int = 0
    """How often its callback was called."""
    counts_answers: bool = False


class Judge:
    """Judges the tasks of a pool."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.records: dict[int, Record] = {}
        self._numbers = 0
        self.judged = 0
        self.outcomes: dict[str, int] = {}

    def enter(
        self, size: int, raises: bool, options: dict[str, Any], *, is_alone: bool = True
    ) -> Record:
        """A task is about to be submitted."""
        self._numbers += 1
        record = Record(self._numbers, size, raises, options, is_alone)
        self.records[record.number] = record
        return record

    def begins(self, number: int, worker: int) -> None:
        """A worker has noted that it starts it."""
        record = self.records.get(number)
        if record is None:
            raise Violation(f"job {number} begins in worker {worker} after its answer")
        record.begun.append(worker)
        most = 1 + record.options.get("retries", 0)
        if len(record.begun) > most:
            raise Violation(f"job {number} begins for the {len(record.begun)}th time (5)")

    def ends(self, number: int, worker: int) -> None:
        """A worker is about to write its answer."""
        if (record := self.records.get(number)) is not None:
            record.ended.append(worker)

    def says(self, number: int) -> None:
        """The whole of its answer is on its way, and its worker is about to die."""
        if (record := self.records.get(number)) is not None:
            record.was_said = True

    def unanswered(self) -> Iterable[Record]:
        """Those whose futures are not done."""
        return [r for r in self.records.values() if r.future is not None and not r.future.done()]

    def judge(self, record: Record) -> None:
        """See whether an answer is right; then forget the task.

        Raises:
            Violation: It is not.
        """
        future = record.future
        assert future is not None
        del self.records[record.number]
        self.judged += 1
        try:
            value = future.result(0)
        except CancelledError:
            outcome, error = "cancelled", None
        except BaseException as raised:
            outcome, error = type(raised).__name__, raised
        else:
            outcome, error = "returned", None
            if value != (record.number, b"x" * record.size):
                raise Violation(f"job {record.number} is answered with another's result")
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        if not self._fits(record, future, outcome, error):
            facts = f"begun in {record.begun}, ended in {record.ended}, {future.info}"
            raise Violation(
                f"job {record.number} with {record.options} cannot have ended so: "
                f"{outcome} {error}, started={getattr(error, 'started', None)}; {facts}"
            )
        if record.counts_answers and record.answers != 1:
            raise Violation(f"job {record.number} has {record.answers} answers (I10)")

    def _fits(
        self, record: Record, future: TaskFuture[Any], outcome: str, error: BaseException | None
    ) -> bool:
        world, options, info = self._world, record.options, future.info
        assert info.ended is not None
        if outcome == "returned":
            return bool(record.ended) and not record.raises
        if outcome == "cancelled":
            return not record.begun and (
                record.cancelled or record.killed or record.killed_softly or world.cancels
            )
        if isinstance(error, JobError):
            return bool(record.ended) and record.raises and error.args == (record.number,)
        if isinstance(error, errors.SoftTimeout):
            return bool(record.ended) and (record.killed_softly or "soft_timeout" in options)
        if isinstance(error, errors.PoolClosed):
            return world.is_ending
        if isinstance(error, errors.PoolBroken):
            return world.was_broken
        if isinstance(error, errors.PoolSaturated):
            return world.max_queue is not None
        if isinstance(error, errors.QueueTimeout):
            if info.attempts:
                return "queue_timeout" in options  # It has waited anew.
            return self._is_late(info.queued, info.ended, options.get("queue_timeout"))
        if not isinstance(error, errors.WorkerError):
            return False
        if isinstance(error, errors.WorkerDied) and record.was_said:
            return self._is_killed(record)  # Else what has arrived is a result.
        if error.started and not (record.begun or self._is_killed(record)):
            # Only who has said something out of turn is not believed that.
            return error.worker_id in world.liars
        if not error.started and not self._is_killed(record) and outcome != "TaskTimeout":
            # Handed on as often as that, and never begun.
            return info.attempts > FREE_RUNS
        if isinstance(error, errors.TaskTimeout):
            if info.started is None:
                # It lay in the tray of a worker that never took it, and its time passed there.
                return info.ended >= info.queued + options.get("timeout", math.inf)
            return self._is_late(info.started, info.ended, options.get("timeout"))
        if isinstance(error, errors.WorkerUnresponsive):
            return error.worker_id in world.frozen
        if isinstance(error, errors.MemoryLimitExceeded):
            return error.worker_id in world.grown
        if isinstance(error, errors.ProtocolError):
            return error.worker_id in world.liars
        return isinstance(error, errors.WorkerDied)

    @staticmethod
    def _is_killed(record: Record) -> bool:
        return record.killed or record.killed_softly

    def _is_late(self, since: float, until: float, limit: float | None) -> bool:
        if limit is None:
            return False
        late = until - since - limit
        return late >= -0.001 and late <= LATENESS + self._world.machine.stalled_since(since)
