"""A world as a value, and back: what of it can matter from now on, and nothing else.

Two worlds have the same snapshot if they differ in names and dates only: workers are named by their
place, and the places are sorted; of tasks with the same options the first ones are those that come
first in places and queue; times are counted from now. What only
figures are made of is left out, and an age beyond the only limit that asks for it is that limit.

What depends on names is not in a snapshot, but for that there is ``orders``.
"""

from __future__ import annotations

from typing import Any

from tests.exploration.case import MOST_FAILURES, Case
from tests.exploration.codes import (
    ASKED,
    AT_ONCE,
    DEAF,
    DIRECT,
    IS_WITHDRAWN,
    KILLED,
    LAID,
    MAY_HAVE_BEGUN,
    MEASURED,
    NEVER,
    NO_TASK,
    NUMBER,
    OUTDATED,
    PARDONED,
    READY,
    REPORTED,
    SILENT,
    STOPPED,
    UNBORN,
    WAS_LAID_OUT,
    WAS_SPARED,
    Snapshot,
)
from tests.exploration.names import named, names_of, renamed
from tests.exploration.projector import Projector
from tests.exploration.world import SLOW, WAITER, World
from warmpool.deadlines import Owner
from warmpool.lifecycle import WARM, State, Worker
from warmpool.tasks import Task


class Camera(Projector):
    """Takes snapshots of the worlds of a case, and makes worlds of them.

    Args:
        case: The case.
    """

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        settings = case.settings
        self._stable_after = settings.restart.stable_after
        self._probe_delay = settings.restart.shortest_probe_delay
        self._most_done = settings.max_tasks_per_child or 1
        self._lays_out = settings.lays_out
        self._case = case

    def take(self, world: World) -> tuple[Snapshot, list[int | None], dict[int, int]]:
        """The snapshot of a world, its workers in the order of their places, and its tasks' names:
        who is called what in the snapshot.
        """
        core, now = world.core, world.now
        roster = core.roster
        idle = {id: rank for rank, id in enumerate(roster.idle)}
        noted: list[tuple[float, int, int]] = []
        seen = core.waiters.get(WAITER, ())
        places = []
        for slot in roster.slots:
            id = slot.worker
            start_at = NEVER
            if slot.next_start_at is not None:
                noted.append((slot.next_start_at, Owner.SLOT, slot.index))
                start_at = self._until(slot.next_start_at, now)
            place = (
                () if id is None else self._worker(world, roster.workers[id], idle, noted),
                min(slot.failures, MOST_FAILURES),
                start_at,
                slot.index in seen,
                slot.index in world.cold,
            )
            places.append((place, id))
        alike = self._case.alike
        if len(places) > 1:
            if self._case.has_twins:
                places.sort(key=lambda pair: named(pair[0], alike))
            else:
                places.sort(key=_first)
        queue = []
        for id in core.book.queue:
            task = core.book.tasks[id]
            queue_at = NEVER
            if task.queue_deadline is not None:
                noted.append((task.queue_deadline, Owner.TASK, id))
                queue_at = self._until(task.queue_deadline, now)
            queue.append((self._task(world, task), queue_at))
        ending, pulses = core.ending, core.pulses
        ending_at = pulse_at = NEVER
        if ending.at is not None:
            assert ending.step is not None
            noted.append((ending.at, Owner.POOL, ending.step))
            ending_at = self._until(ending.at, now)
        extras: tuple[Any, ...] = ()
        if self._has_extras:
            if pulses.next_at is not None:
                noted.append((pulses.next_at, Owner.PULSE, 0))
                pulse_at = self._until(pulses.next_at, now)
            surplus_at, memory_at = core._surplus_at, core._memory_at
            if surplus_at is not None:
                noted.append((surplus_at, Owner.SURPLUS, 0))
            if memory_at is not None:
                noted.append((memory_at, Owner.MEMORY, 0))
            checked_at = pulses._checked_at
            extras = (
                pulse_at,
                NEVER if checked_at is None or pulse_at == NEVER else checked_at - now,
                NEVER if surplus_at is None else surplus_at - now,
                NEVER if memory_at is None else memory_at - now,
            )
        assert set(core._deadlines._heap).issuperset(noted), "a deadline is set and will never come"
        snapshot = (
            tuple([place for place, _ in places]),
            tuple(queue),
            NUMBER[core.phase],
            NEVER if ending.step is None else int(ending.step),
            ending_at,
            NUMBER[core.health],
            roster.broken_at is not None,
            roster.last_failure is not None,
            len(roster._window._times),
            max(roster._last_start - now, -self._probe_delay),
            world.waiting,
            extras,
        )
        names: dict[int, int] = {}
        if self._case.has_twins:
            names = names_of(snapshot, alike, self._case.twins)
            snapshot = renamed(snapshot, names)
        return snapshot, [id for _, id in places], names

    def _until(self, at: float, now: float) -> float:
        """How long it is until then."""
        # Hundredths do not add up exactly.
        return round(at - now, 6) if self._lays_out else at - now

    def _worker(
        self, world: World, worker: Worker, idle: dict[int, int], noted: list[Any]
    ) -> tuple[Any, ...]:
        id, now, roster = worker.id, world.now, world.core.roster
        deadline = soft_at = NEVER
        if worker.deadline is not None:
            noted.append((worker.deadline, Owner.WORKER, id))
            deadline = self._until(worker.deadline, now)
        if worker.soft_at is not None:
            noted.append((worker.soft_at, Owner.SOFT, id))
            soft_at = self._until(worker.soft_at, now)
        suspicion, done = worker.suspicion, min(worker.tasks_done, self._most_done)
        flags = (id in world.unborn) * UNBORN | (id in world.asked) * ASKED
        if id in world.pardoned and worker.ready_at is None:
            flags |= PARDONED
        is_killed = id in world.killed
        if is_killed:
            # Nothing matters any more but when it is gone.
            flags |= KILLED
            suspicion, done = None, 0
        else:
            flags |= (id in world.stopped) * STOPPED | (id in world.deaf) * DEAF
            flags |= (id in world.outdated) * OUTDATED
        proved_at = NEVER
        if worker.ready_at is not None:
            flags |= READY
            # Ages matter up to where it has proved itself.
            proved_at = -self._stable_after
            if not (worker.tasks_done or is_killed):
                proved_at = max(worker.ready_at - now, proved_at)
        task, running = NO_TASK, world.running.get(id, 0)
        if worker.task is not None:
            held = world.core.book.tasks[worker.task]
            assert held.queue_deadline is None, "a task that runs still waits"
            task = self._task(world, held)
        extras: tuple[Any, ...] = ()
        if self._has_extras:
            extras = self._extras(world, worker, noted)
            flags |= (id in world.silent) * SILENT | (id in world.measured) * MEASURED
            flags |= worker.memory_reported * REPORTED
        trays: tuple[Any, ...] = ()
        if self._lays_out:
            trays = self._trays(world, worker, noted)
            flags |= (id in world.direct) * DIRECT | (id in roster.laid) * LAID
        return (
            NUMBER[worker.state],
            deadline,
            flags,
            task,
            running,
            () if suspicion is None else (NUMBER[suspicion.kind], suspicion.started),
            proved_at,
            done,
            idle.get(id, -1),
            list(roster.due).index(id) if roster.due and id in roster.due else -1,
            soft_at,
            extras,
            trays,
        )

    def _trays(self, world: World, worker: Worker, noted: list[Any]) -> tuple[Any, ...]:
        id, tray_at = worker.id, NEVER
        if worker.tray_at is not None:
            noted.append((worker.tray_at, Owner.TRAY, id))
            tray_at = self._until(worker.tray_at, world.now)
        book = world.core.book.tasks
        return (
            tray_at,
            worker.reach if worker.state in WARM else 0,
            tuple([self._task(world, book[task]) for task in worker.tray]),
            tuple(world.behind.get(id, ())),
            tuple(world.trays.get(id, ())),
        )

    def _extras(self, world: World, worker: Worker, noted: list[Any]) -> tuple[Any, ...]:
        aged_at = started_at = idle_since = NEVER
        now = world.now
        if self._has_lifetime:
            if worker.aged_at is not None:
                noted.append((worker.aged_at, Owner.AGE, worker.id))
                aged_at = worker.aged_at - now
            if worker.ready_at is None:
                started_at = worker.started_at - now
        if self._idle_timeout is not None and worker.state is State.IDLE:
            idle_since = max(worker.moved_at - now, -self._idle_timeout)
        pulse: tuple[Any, ...] = ()
        known = world.core.pulses._pulses.get(worker.id)
        if known is not None:
            is_same = known.beats == world.beats.get(worker.id, 0)
            pulse = (is_same, known.silent, known.reported)
        return (aged_at, started_at, idle_since, pulse, worker.id in world.core._memory_asked)

    def _task(self, world: World, task: Task) -> tuple[Any, ...]:
        expected = world.expected.get(task.spec.id)
        assert expected is not None, "it holds a task that needs no answer any more"
        started_at = NEVER
        runs, end_requested = task.runs, NEVER
        facts = task.may_have_begun * MAY_HAVE_BEGUN
        if task.spec.timeout is not None and task.worker is not None:
            started_at = max(task.started_at - world.now, -task.spec.timeout)
        if self._lays_out:
            # Whether there were any besides one that may be unmade is all that counts.
            runs = min(runs, 2)
            facts |= task.was_laid_out * WAS_LAID_OUT
            facts |= task.was_spared * WAS_SPARED | task.is_withdrawn * IS_WITHDRAWN
            if task.end_requested is not None:
                grace = task.end_requested.grace
                end_requested = AT_ONCE if grace is None else grace
            if task.worker is not None:
                limit = SLOW if started_at == NEVER else task.spec.timeout
                started_at = max(self._until(task.started_at, world.now), -limit)
        return (
            task.spec.id,
            task.retries,
            task.free_runs,
            runs,
            task.kill_requested,
            started_at,
            facts,
            end_requested,
            expected.runs,
            expected.reruns,
            expected.evidence,
            expected.kill,
            expected.cancelled,
            expected.sent,
            expected.lay,
        )


def _first(pair: tuple[Any, Any]) -> Any:
    return pair[0]
