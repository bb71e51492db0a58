"""How it must end from anywhere: three ways on, each with one next move and a goal.

``alone``: nobody does anything any more but die when killed. ``healed``: faults stop, everybody
does what is asked. ``closed``: somebody closes the pool, and no worker listens or dies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tests.exploration.moves import Move
from tests.exploration.world import World
from warmpool.ending import CLOSED, DRAINING, OPEN
from warmpool.events import Health
from warmpool.lifecycle import BUSY, INITIALIZING, STARTING, STOPPING, WARM

Way: TypeAlias = Callable[[World], Move | None]
"""Gives the next move; None at the goal."""


class Stuck(AssertionError):
    """There is no next move, and this is not the goal."""


def _news(world: World) -> Move | None:
    """What is on the way to the core already."""
    for task, expected in world.expected.items():
        if expected.cancelled:
            return ("cancelled", task)
    return _unread(world)


def _unread(world: World) -> Move | None:
    """An answer that has been there since before whatever comes next."""
    for worker in world.behind:
        if world.is_to_be_heard(worker):
            return ("done", worker)
    return None


def _time(world: World, wish: str) -> Move:
    deadlines = world.deadlines()
    if not deadlines:
        raise Stuck(f"{wish}, and there is no deadline")
    return ("tell_time",) if deadlines[0] <= world.now else ("let_pass", 1)


def alone(world: World) -> Move | None:
    """Time alone answers every task and every waiter, and ends a pool that was to end."""
    core = world.core
    if (news := _news(world)) is not None:
        return news
    if core.phase is CLOSED:
        return None
    if core.phase is OPEN and not core.book.tasks and not world.waiting:
        return None
    if world.killed:
        return ("reap", min(world.killed))
    if not _has_bound(world):
        for worker in core.roster.workers.values():
            if worker.state is BUSY:
                return ("exit", worker.id, True)  # It might run for ever: its owner said so.
    return _time(world, "somebody waits for an answer, or the end")


def _has_bound(world: World) -> bool:
    """Whether there is a task that must be answered while others run for ever."""
    book, workers = world.core.book, world.core.roster.workers
    for task in book.tasks.values():
        if task.worker is None:
            if task.spec.queue_timeout is not None:
                return True
        elif workers[task.worker].state is not BUSY:
            return True
        elif task.spec.timeout is not None and workers[task.worker].task == task.spec.id:
            return True  # Not if it lies in a tray behind another one.
    return False


def healed(world: World) -> Move | None:
    """Once faults stop, the pool is warm and well, or ended if it was to end."""
    core = world.core
    phase, roster = core.phase, core.roster
    if (news := _news(world)) is not None:
        return news
    if phase is CLOSED:
        return None
    if world.killed:
        return ("reap", min(world.killed))
    if world.asked:
        return ("give_stack", min(world.asked), True)
    for worker in roster.workers.values():
        id, state = worker.id, worker.state
        if id in world.unborn:
            return ("spawn", id)
        if state is STOPPING:
            return ("exit", id, True)
        if state is STARTING:
            return ("greet", id)
        if state is INITIALIZING:
            return ("ready", id)
        if state is BUSY and id not in world.silent:
            return ("done", id)
    settings = core.settings
    least = settings.max_workers if settings.min_idle is None else settings.min_idle
    if (
        phase is OPEN
        and len(roster.in_states(WARM)) >= least
        and not core.book.queue
        and core.health is Health.READY
        and not world.waiting
        and not world.silent
        and not world.outdated
    ):
        return None
    return _time(world, "the pool is not warm and well")


def closed(world: World) -> Move | None:
    """Closing ends it, whatever workers do."""
    phase = world.core.phase
    if (unread := _unread(world)) is not None:
        return unread
    if phase is CLOSED:
        return None
    if phase in (OPEN, DRAINING):
        return ("close", None)
    return _time(world, "the pool is not closed")


WAYS: tuple[Way, ...] = (alone, healed, closed)
