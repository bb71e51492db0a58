"""The workers of a pool by their states: who is idle, who is due to leave. Pure.

What is asked at each event is kept as it changes, in the one place where it can change, since there
may be thousands of workers; :meth:`Standing.validate` compares it with what there is.
"""

from __future__ import annotations

from collections import OrderedDict
from operator import attrgetter

from warmpool import events as ev
from warmpool.lifecycle import (
    BUSY,
    DEAD,
    IDLE,
    LEAVING,
    STOPPING,
    WARM,
    WARMING,
    Input,
    InvalidTransition,
    State,
    Worker,
)

_ID = attrgetter("id")


class Standing:
    """The live workers, and which of them are in which state."""

    def __init__(self) -> None:
        self.workers: dict[int, Worker] = {}
        self.stages: dict[frozenset[State], dict[int, Worker]]
        self.stages = {states: {} for states in (WARMING, WARM, LEAVING)}
        # Invariant: the workers in one of these states. No task moves a worker from one to another.
        self._stage_of = {state: there for states, there in self.stages.items() for state in states}
        self.idle: OrderedDict[int, Worker] = OrderedDict()
        # Invariant: the workers in IDLE; first who is due, then the others, least recently idle
        # first.
        self.unready: set[int] = set()
        # Invariant: the workers that were never ready. Also those that are leaving for that: until
        # its slot waits for its delay, no other slot is to take its place.
        self.due: dict[int, ev.ExitReason] = {}
        """Warm workers that are to leave as soon as they can be spared, and why."""
        self.due_idle: OrderedDict[int, Worker] = OrderedDict()
        # Invariant: those of them that are idle, in the order in which they became both.

    def __getitem__(self, worker: int) -> Worker:
        try:
            return self.workers[worker]
        except KeyError:
            raise InvalidTransition(f"there is no worker {worker}") from None

    def in_states(self, states: frozenset[State]) -> list[Worker]:
        """The workers in one of these states, the oldest first.

        A copy, so that the caller may move them.
        """
        found = []
        for stage, there in self.stages.items():
            if not stage.isdisjoint(states):
                found += [worker for worker in there.values() if worker.state in states]
        found.sort(key=_ID)
        return found

    @property
    def spare(self) -> int:
        """How many workers have nothing to do, and are to stay."""
        return len(self.idle) - len(self.due_idle)

    # ------------------------------------------------------------------ moving

    def enter(self, worker: Worker) -> None:
        """There is a new worker."""
        self.workers[worker.id] = worker
        self._stage_of[worker.state][worker.id] = worker
        self.unready.add(worker.id)

    def move(self, worker: Worker, cause: Input, now: float) -> State:
        """Move a worker, and return the state that it has left."""
        before, after = worker.move(cause, now), worker.state
        if after is IDLE:
            self._add_idle(worker)
        elif before is IDLE:
            del self.idle[worker.id]
            if self.due_idle:
                self.due_idle.pop(worker.id, None)
        there = self._stage_of.get(after)
        if there is not self._stage_of[before]:
            self._change_stage(worker, before, there)
        return before

    def _change_stage(self, worker: Worker, before: State, there: dict[int, Worker] | None) -> None:
        del self._stage_of[before][worker.id]
        if there is not None:
            there[worker.id] = worker
        if worker.state in WARM:
            self.unready.discard(worker.id)
        else:
            self.due.pop(worker.id, None)

    def forget(self, worker: Worker) -> None:
        """A worker is dead."""
        assert worker.state is DEAD
        del self.workers[worker.id]
        self.unready.discard(worker.id)

    def note_passed(self, worker: Worker, taken_at: float, done_at: float) -> None:
        """An idle worker was busy, and is idle again."""
        worker.note_passed(taken_at, done_at)
        if worker.id not in self.due:
            self.idle.move_to_end(worker.id)

    def retire_soon(self, worker: Worker, reason: ev.ExitReason) -> None:
        """Let a warm worker leave when it can be spared; others are preferred for tasks."""
        self.due[worker.id] = reason
        if worker.state is IDLE and worker.id not in self.due_idle:
            self._add_idle(worker)

    def _add_idle(self, worker: Worker) -> None:
        self.idle[worker.id] = worker
        if worker.id in self.due:
            # As if it had been idle for the longest: the last to get a task.
            self.idle.move_to_end(worker.id, last=False)
            self.due_idle[worker.id] = worker

    # ------------------------------------------------------------------ checking

    def validate(self) -> None:
        """Assert what must always be true of workers."""
        workers = self.workers.values()
        for states, there in self.stages.items():
            assert there == {w.id: w for w in workers if w.state in states}
        assert self.idle == {w.id: w for w in workers if w.state is IDLE}
        assert self.unready == {w.id for w in workers if w.ready_at is None}
        assert self.due.keys() <= {w.id for w in workers if w.state in WARM}
        assert self.due_idle.keys() == self.idle.keys() & self.due.keys()
        first = list(self.idle)[: len(self.due_idle)]
        assert list(self.due_idle) == first[::-1]
        for worker in workers:
            assert worker.state is not DEAD  # I9: the dead are not kept
            if worker.state is BUSY:
                assert worker.task is not None
            elif worker.task is not None:
                assert worker.suspicion is not None
            if worker.state in WARMING or worker.state is STOPPING:
                assert worker.deadline is not None, "it could stay for ever"
            if worker.state is IDLE:
                assert worker.deadline is None
            assert not worker.tray or worker.state in LEAVING | {BUSY}
            assert worker.soft_at is None or worker.task is not None
