"""Makes a world of a snapshot."""

from __future__ import annotations

import functools
from collections import deque
from typing import Any

from tests.exploration.case import Case
from tests.exploration.codes import (
    ASKED,
    AT_ONCE,
    DEAF,
    DIRECT,
    HEALTHS,
    IS_WITHDRAWN,
    KILLED,
    KINDS,
    LAID,
    MAY_HAVE_BEGUN,
    MEASURED,
    NEVER,
    OUTDATED,
    PARDONED,
    PHASES,
    READY,
    REPORTED,
    SILENT,
    STATES,
    STOPPED,
    UNBORN,
    UNUSUAL,
    WAS_LAID_OUT,
    WAS_SPARED,
    Snapshot,
)
from tests.exploration.promises import Expected
from tests.exploration.world import WAITER, World
from warmpool import events as ev
from warmpool.deadlines import Owner
from warmpool.ending import Step
from warmpool.laid import Laid
from warmpool.lifecycle import Worker
from warmpool.pulse import _Pulse
from warmpool.tasks import Task

_A_CAUSE = ev.Failure(ev.FailureKind.DIED)
_SLOT, _WORKER = Owner.SLOT, Owner.WORKER


@functools.cache
def _suspicion(kind: int, started: bool) -> ev.Failure:
    return ev.Failure(KINDS[kind], started=started)


class Outdated(frozenset[int]):
    """In place of the last worker that was started before the last reload: those that were.

    Here they are called by their places.
    """

    def __ge__(self, worker: object) -> bool:
        return worker in self


class Projector:
    """Makes worlds of the snapshots of a case.

    Args:
        case: The case.
    """

    def __init__(self, case: Case) -> None:
        settings = case.settings
        self._specs = {spec.id: spec for spec in case.tasks}
        self._idle_timeout = settings.idle_timeout
        self._has_lifetime = settings.worker_lifetime is not None
        self._has_extras = (
            self._has_lifetime
            or settings.heartbeat_timeout is not None
            or settings.memory_limit is not None
            or settings.idle_timeout is not None
        )

    def make(self, snapshot: Snapshot, world: World) -> None:
        """Make a world of a snapshot, in place of what it was."""
        (
            places,
            queue,
            phase,
            step,
            ending_at,
            health,
            is_broken,
            has_failed,
            failures,
            last_start,
            waiting,
            extras,
        ) = snapshot
        core = world.core
        roster, book = core.roster, core.book
        heap: list[tuple[float, Owner, int]] = []
        world.clear()
        world.waiting = waiting
        core._out = []
        core._now = 0.0
        core.health = world.told = HEALTHS[health]
        core.waiters = {WAITER: set()} if waiting else {}
        roster.workers = {}
        for there in roster.stages.values():
            there.clear()
        roster.idle.clear()
        roster.due_idle.clear()
        roster.ailing.clear()
        roster.unready = set()
        roster.due = {}
        roster.scheduled = set()
        roster.broken_at = 0.0 if is_broken else None
        roster.last_failure = _A_CAUSE if has_failed else None
        roster._last_start = last_start
        roster._window._times = deque([0.0] * failures)
        roster.started = len(places)
        roster.outdated = 0
        roster.laid = Laid()
        roster.recalled = set()
        book.tasks.clear()
        book.queue.clear()
        book.settled.clear()
        if self._has_extras:
            self._make_extras(world, extras, heap)
        idle, due = [], []
        for slot, (one, failed, start_at, seen, cold) in zip(roster.slots, places, strict=True):
            index = slot.index
            slot.failures = failed
            if seen:
                core.waiters[WAITER].add(index)
            if cold:
                world.cold.add(index)
            if start_at == NEVER:
                slot.next_start_at = None
            else:
                slot.next_start_at = start_at
                roster.scheduled.add(index)
                heap.append((start_at, _SLOT, index))
            if one:
                slot.worker = id = index + 1
                self._make_worker(world, id, index, one, heap)
                if one[8] >= 0:
                    idle.append((one[8], id))
                if one[9] >= 0:
                    due.append((one[9], id))
            else:
                slot.worker = None
            if failed:
                roster._examine(slot)
        roster.vacancies.renew()
        if len(idle) > 1:
            idle.sort()
        for _, id in idle:
            roster.idle[id] = roster.workers[id]
        if due:
            roster.due = {id: ev.ExitReason.AGED for _, id in sorted(due)}
            for _, id in reversed(idle):
                if id in roster.due:
                    roster.due_idle[id] = roster.workers[id]
        for value, queue_at in queue:
            task = self._make_task(world, value, None)
            book.queue[value[0]] = None
            if queue_at != NEVER:
                task.queue_deadline = queue_at
                heap.append((queue_at, Owner.TASK, value[0]))
        book.submitted = len(book.tasks)
        ending = core.ending
        ending.phase = PHASES[phase]
        if step == NEVER:
            ending.step = ending.at = None
        else:
            ending.step, ending.at = Step(step), ending_at
            heap.append((ending_at, Owner.POOL, step))
        if world.outdated:
            roster.outdated = Outdated(world.outdated)  # type: ignore[assignment]
        heap.sort()  # A sorted list is a heap.
        core._deadlines._heap = heap

    def _make_worker(
        self, world: World, id: int, index: int, value: tuple[Any, ...], heap: list[Any]
    ) -> None:
        state, at, flags, task, running, suspicion, proved_at, done, *_, soft_at, extras, trays = (
            value
        )
        deadline = pid = ready_at = soft = None
        if at != NEVER:
            deadline = at
            heap.append((at, _WORKER, id))
        if soft_at != NEVER:
            soft = soft_at
            heap.append((soft_at, Owner.SOFT, id))
        if flags & READY:
            ready_at = proved_at
        else:
            world.core.roster.unready.add(id)
        if flags & UNBORN:
            world.unborn.add(id)
        else:
            pid = 1000 + id
            world.alive.add(id)
        if flags & UNUSUAL:
            if flags & KILLED:
                world.killed.add(id)
            if flags & STOPPED:
                world.stopped.add(id)
            if flags & ASKED:
                world.asked.add(id)
            if flags & DEAF:
                world.deaf.add(id)
            if flags & PARDONED:
                world.pardoned.add(id)
            if flags & OUTDATED:
                world.outdated.add(id)
            if flags & DIRECT:
                world.direct.add(id)
        if running:
            world.running[id] = running
        held = None
        if task:
            held = task[0]
            self._make_task(world, task, id)
        # By position, since this is done a million times.
        worker = world.core.roster.workers[id] = Worker(
            id, index, 0.0, deadline, STATES[state], pid, held, 0, ready_at, None, soft
        )
        worker.tasks_done = done
        world.core.roster._stage_of[worker.state][id] = worker
        if suspicion:
            worker.suspicion = _suspicion(*suspicion)
        if extras:
            self._make_extra(world, worker, flags, extras, heap)
        if trays:
            self._make_tray(world, worker, trays, heap)
        if flags & LAID:
            world.core.roster.laid.add(worker)

    def _make_tray(
        self, world: World, worker: Worker, trays: tuple[Any, ...], heap: list[Any]
    ) -> None:
        tray_at, worker.reach, tray, behind, frames = trays
        if tray_at != NEVER:
            worker.tray_at = tray_at
            heap.append((tray_at, Owner.TRAY, worker.id))
        for value in tray:
            worker.tray.append(value[0])
            self._make_task(world, value, worker.id)
        if behind:
            world.behind[worker.id] = list(behind)
        if frames:
            world.trays[worker.id] = list(frames)

    def _make_extra(
        self,
        world: World,
        worker: Worker,
        flags: int,
        extras: tuple[Any, ...],
        heap: list[Any],
    ) -> None:
        id = worker.id
        aged_at, started_at, idle_since, pulse, is_asked = extras
        if aged_at != NEVER:
            worker.aged_at = aged_at
            heap.append((aged_at, Owner.AGE, id))
        if started_at != NEVER:
            worker.started_at = started_at
        if idle_since != NEVER:
            worker._moves.append((idle_since, ev.TaskDone, worker.state))
        worker.memory_reported = bool(flags & REPORTED)
        if flags & SILENT:
            world.silent.add(id)
        if flags & MEASURED:
            world.measured.add(id)
        if is_asked:
            world.core._memory_asked.add(id)
        if pulse:
            is_same, silent, reported = pulse
            world.core.pulses._pulses[id] = _Pulse(0 if is_same else -1, silent, reported)

    def _make_extras(self, world: World, extras: tuple[float, ...], heap: list[Any]) -> None:
        core = world.core
        pulse_at, checked_at, surplus_at, memory_at = extras
        core._memory_asked.clear()
        core.pulses._pulses = {}
        core.pulses._checked_at = None if checked_at == NEVER else checked_at
        for owner, at in (
            (Owner.PULSE, pulse_at),
            (Owner.SURPLUS, surplus_at),
            (Owner.MEMORY, memory_at),
        ):
            if at != NEVER:
                heap.append((at, owner, 0))
        core.pulses.next_at = None if pulse_at == NEVER else pulse_at
        core._surplus_at = None if surplus_at == NEVER else surplus_at
        core._memory_at = None if memory_at == NEVER else memory_at

    def _make_task(self, world: World, value: tuple[Any, ...], worker: int | None) -> Task:
        id, retries, free, runs, kill_requested, started_at, facts, end_requested, *expected = value
        task = world.core.book.tasks[id] = Task(self._specs[id], retries, free, runs, worker)
        if started_at != NEVER:
            task.started_at = started_at
        task.kill_requested = kill_requested
        if facts:
            task.may_have_begun = bool(facts & MAY_HAVE_BEGUN)
            task.was_laid_out = bool(facts & WAS_LAID_OUT)
            task.was_spared = bool(facts & WAS_SPARED)
            task.is_withdrawn = bool(facts & IS_WITHDRAWN)
        if end_requested != NEVER:
            grace = None if end_requested == AT_ONCE else end_requested
            task.end_requested = ev.TaskKillRequested(id, grace)
        world.expected[id] = Expected(*expected)
        return task
