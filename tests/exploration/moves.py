"""All that can happen next in a world: moves, each the name of a method of the world and arguments.

Nothing is left out for being unlikely. What is left out is what cannot be told apart: of tasks with
the same options, the first that is free is submitted; all that a killed worker may still say is
said in one move, since none of it may have an effect.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, TypeAlias

from tests.exploration.world import A_WHILE, SLOW, World
from warmpool.ending import CLOSED, CLOSING, DRAINING, OPEN, Step
from warmpool.lifecycle import BUSY, INITIALIZING, KILLING, STARTING, STOPPING, WARM, Worker

Move: TypeAlias = tuple[Any, ...]

FREE = 0
FAULT = 1
IMPOSSIBLE = 1000


def moves(world: World, twins: Container[int] = ()) -> list[tuple[int, Move]]:
    """What can happen next, and whether it is a fault.

    Args:
        world: In which it can happen.
        twins: Workers that are like another one in everything: it is enough to look at that.
    """
    if world.core.phase is CLOSED:
        return []
    found: list[tuple[int, Move]] = []
    for worker in world.core.roster.workers.values():
        if worker.id in twins:
            continue
        if worker.id in world.unborn:
            found += _unborn(world, worker)
        else:
            found += _alive(world, worker)
    if world.case.ghosts:
        found.append((FREE, ("ghost",)))
    found += _callers(world)
    found += _time(world)
    return found


def _unborn(world: World, worker: Worker) -> list[tuple[int, Move]]:
    cost = FREE if worker.id in world.killed else FAULT
    return [(FREE, ("spawn", worker.id)), (cost, ("start_failed", worker.id))]


def _alive(world: World, worker: Worker) -> list[tuple[int, Move]]:
    found: list[tuple[int, Move]] = []
    id, state = worker.id, worker.state
    if state is KILLING:
        found.append((FREE, ("late", id)))
    elif id not in world.deaf:
        found += _messages(world, worker)
    # Whether its task had started makes a difference as long as the run is not over.
    starts = (True, False) if worker.task is not None or worker.tray else (True,)
    leaves = state in (STOPPING, KILLING)
    if not world.is_to_be_heard(id):  # All that it had written comes before its end.
        found += [(FREE if leaves else FAULT, ("exit", id, started)) for started in starts]
    if id in world.asked:
        found += [(FREE, ("give_stack", id, started)) for started in starts]
    case = world.case
    if case.silence and id not in world.silent and state in WARM:
        found.append((FAULT, ("fall_silent", id)))
    if id in world.measured:
        found.append((FREE, ("measure", id, 1)))
        found += [(FAULT, ("measure", id, used)) for used in case.memory]
    return found


def _messages(world: World, worker: Worker) -> list[tuple[int, Move]]:
    id, state = worker.id, worker.state
    found: list[tuple[int, Move]] = []
    truth = None
    if state is STARTING:
        truth = "greet"
        found.append((FREE, ("greet", id)))
    elif state is INITIALIZING:
        truth = "ready"
        found.append((FREE, ("ready", id)))
        found.append((FAULT, ("initializer_raised", id)))
    elif state is BUSY:
        found.append((FREE, ("done", id)))
        found.append((FAULT, ("garbage_before_start", id)))
    found += [(FAULT, ("lie", id, what)) for what in world.case.lies if what != truth]
    found.append((FAULT, ("lie", id, "garbage")))
    if not world.is_to_be_heard(id):
        found.append((FREE if state is STOPPING else FAULT, ("close_channel", id)))
    return found


def _callers(world: World) -> list[tuple[int, Move]]:
    core, case = world.core, world.case
    phase, book = core.phase, core.book
    found: list[Move] = []
    free = {}
    for spec in case.tasks:
        if spec.id not in book.tasks:
            free.setdefault(case.alike[spec.id], spec.id)
    if case.bursts and free:
        found.append(("burst",))
    for task in free.values():
        if not case.bursts:
            found.append(("submit", task))
        if case.leases:
            found += [("lease", worker, task) for worker in core.on_loan(9)]
    if case.passes:
        found += [("pass_by", worker) for worker, most in core.on_loan(9).items() if most > 0]
    for task in book.tasks:
        expected = world.expected[task]
        if expected.cancelled:
            found.append(("cancelled", task))
            continue
        if case.concerned is not None and task not in case.concerned:
            continue
        if case.cancels and not (expected.runs or expected.sent or expected.lay == 1):
            found.append(("cancel", task))
        if case.withdrawals and expected.lay:
            found.append(("withdraw", task))
        if case.kills and expected.kill < 2:
            found.append(("kill_task", task, None))
        if case.kill_grace is not None and not expected.kill:
            found.append(("kill_task", task, case.kill_grace))
    if world.waiting:
        found.append(("abandon_warmth",))
    elif case.waiters:
        found.append(("await_warmth",))
    if case.shutdowns and phase in (OPEN, DRAINING):
        found.append(("shut_down", True))
        if phase is OPEN:
            found.append(("shut_down", False))
    if case.reloads:
        found.append(("reload",))
    ending = core.ending
    if phase is not CLOSING or (ending.step is Step.KILL and ending.at != world.now):
        found += [("close", timeout) for timeout in case.close_timeouts]
    return [(FREE, move) for move in found]


def _time(world: World) -> list[tuple[int, Move]]:
    if any(map(world.is_to_be_heard, world.behind)):
        return []  # What is there to be read comes first.
    deadlines, found = world.deadlines(), []
    if _may_dawdle(world, deadlines):
        found.append((FREE, ("dawdle",)))
    if not world.case.is_late:
        # Also several at once, if the core's thread is late, or this machine slept.
        found += [(FREE, ("let_pass", number + 1)) for number in range(len(deadlines))]
        return found
    if deadlines and deadlines[0] <= world.now:
        found.append((FREE, ("tell_time",)))
    if deadlines and deadlines[-1] > world.now:
        found.append((FREE, ("sleep",)))
    return found


def _may_dawdle(world: World, deadlines: list[float]) -> bool:
    """Whether some task may turn out to be none that is quick."""
    if not world.case.settings.lays_out or (deadlines and deadlines[0] <= world.now + A_WHILE):
        return False
    tasks = world.core.book.tasks.values()
    return any(task.worker and task.started_at > world.now - SLOW for task in tasks)


IS_TIME = frozenset({"let_pass", "tell_time"})
"""Moves in which several deadlines may be handled, in an order that depends on names."""
