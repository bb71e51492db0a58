"""Moves, commands and states in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.exploration.moves import Move
from tests.exploration.world import World
from warmpool import events as ev
from warmpool.lifecycle import Worker

Name = Callable[[int], str]
"""What a worker, or a task, is called."""


def _seconds(seconds: float) -> str:
    return f"{seconds:g} s"


def _spec(spec: ev.TaskSpec) -> str:
    options = [
        f"{name} {_seconds(value)}"
        for name, value in (
            ("limit", spec.timeout),
            ("waits at most", spec.queue_timeout),
            ("soft limit", spec.soft_timeout),
        )
        if value is not None
    ]
    options += [f"retries {spec.retries}"] * bool(spec.retries)
    return f" ({', '.join(options)})" if options else ""


def _started(started: bool) -> str:
    return "" if started else "; its task had not started"


def move_in_words(move: Move, world: World, name: Name, task: Name, passed: float) -> str:
    """What happens, e.g. "worker 2 exits"."""
    kind, *given = move
    tell = _MOVES.get(kind)
    if tell is not None:
        return tell(*given)
    if kind in ("let_pass", "sleep", "dawdle"):
        late = ", and the pool's thread has not noticed" if kind == "sleep" else ""
        return f"{_seconds(passed)} pass{late}"
    if kind == "submit":
        return f"{task(given[0])} is submitted{_spec(world.specs[given[0]])}"
    if kind in _TASKS:
        return _TASKS[kind](task(given[0]), *given[1:])
    if kind == "lease":
        return f"{task(given[1])} goes straight to {name(given[0])}, by a lease"
    return _WORKERS[kind](name(given[0]), *given[1:])


_TASKS: dict[str, Callable[..., str]] = {
    "cancel": lambda task: f"the caller of {task} cancels it; the pool has not heard yet",
    "cancelled": lambda task: f"the pool hears that {task} is cancelled",
    "withdraw": lambda task: f"the caller of {task} cancels it, if it has not begun",
    "kill_task": lambda task, grace: (
        f"{task} is to be killed" + ("" if grace is None else f", in {_seconds(grace)}")
    ),
}

_MOVES: dict[str, Callable[..., str]] = {
    "burst": lambda: "all tasks are submitted that are not there",
    "reload": lambda: "the pool is to be reloaded",
    "await_warmth": lambda: "somebody waits for warmth",
    "abandon_warmth": lambda: "whoever waited for warmth gives up",
    "shut_down": lambda cancel: "shutdown" + (", what waits is cancelled" if cancel else ""),
    "close": lambda timeout: "close" + ("" if timeout is None else f", within {_seconds(timeout)}"),
    "tell_time": lambda: "the pool's thread notices how late it is",
    "ghost": lambda: "workers and tasks that are long gone are heard of",
}

_WORKERS: dict[str, Callable[..., str]] = {
    "spawn": lambda who: f"the process of {who} exists",
    "start_failed": lambda who: f"{who} cannot be started",
    "greet": lambda who: f"{who} greets",
    "ready": lambda who: f"{who} is ready",
    "initializer_raised": lambda who: f"the initializer of {who} raises",
    "done": lambda who: f"{who} answers its task",
    "pass_by": lambda who: f"{who} has done a task that went past the pool",
    "lie": lambda who, what: f"{who} says what it cannot say now ({what})",
    "garbage_before_start": lambda who: f"{who} writes garbage; its task had not started",
    "late": lambda who: f"{who} had said all kinds of things before it was to be killed",
    "close_channel": lambda who: f"{who} closes its channel",
    "fall_silent": lambda who: f"{who} falls silent",
    "measure": lambda who, used: f"{who} is found to use {used} bytes",
    "give_stack": lambda who, started: f"{who} has written down its stack{_started(started)}",
    "exit": lambda who, started: f"{who} exits{_started(started)}",
    "reap": lambda who: f"{who} dies of its kill",
}


def command_in_words(command: ev.Command, name: Name, called: Name) -> str | None:
    """What the core has done, e.g. "start worker 2"; None if that is not worth a word."""
    match command:
        case ev.StartWorker(worker):
            return f"start {name(worker)}"
        case ev.DispatchTask(worker, task):
            return f"send {called(task)} to {name(worker)}"
        case ev.LayOut(worker, tasks):
            return f"lay out {', '.join(map(called, tasks))} for {name(worker)}"
        case ev.StopWorker(worker):
            return f"ask {name(worker)} to leave"
        case ev.TakeStack(worker):
            return f"ask {name(worker)} for its stack"
        case ev.InterruptTask(worker, task):
            return f"interrupt {called(task)} in {name(worker)}"
        case ev.KillWorker(worker):
            return f"kill {name(worker)}"
        case ev.AbandonWorker(worker):
            return f"give {name(worker)} up"
        case ev.SettleTask(task, outcome, _, failure):
            how = outcome.value if failure is None else f"failed, {failure.kind.value}"
            return f"answer {called(task)}: {how}"
        case ev.DropTask(task):
            return f"drop {called(task)}"
        case ev.AnswerWarm(_, failure):
            how = "warm" if failure is None else failure.kind.value
            return f"answer who waits for warmth: {how}"
        case ev.ChangeHealth(health):
            return f"the pool is {health.value}"
        case ev.EndPool():
            return "the end"
    return None


def state_in_words(world: World, name: Name, called: Name) -> str:
    """Workers and tasks, e.g. "worker 1 idle, worker 2 starting | task 1 waits | ready"."""
    core = world.core
    workers = [_worker(world, worker, name, called) for worker in core.roster.workers.values()]
    slots = [
        f"a start in {_seconds(slot.next_start_at - world.now)}"
        for slot in core.roster.slots
        if slot.next_start_at is not None
    ]
    tasks = [
        f"{called(id)} waits" + (", cancelled" if world.expected[id].cancelled else "")
        for id in core.book.queue
    ]
    waiters = ["somebody waits for warmth"] * world.waiting
    parts = (workers + slots, tasks + waiters, [core.phase.value, core.health.value])
    return " | ".join(", ".join(part) for part in parts if part)


def _worker(world: World, worker: Worker, name: Name, called: Name) -> str:
    facts: list[Any] = [worker.state.value]
    if worker.task is not None:
        facts.append(f"with {called(worker.task)}")
    if worker.tray:
        facts.append(f"and {', '.join(map(called, worker.tray))} behind it")
    if worker.id in world.unborn:
        facts.append("without a process")
    elif worker.id not in world.alive:
        facts.append("gone")
    if worker.deadline is not None:
        facts.append(f"for {_seconds(worker.deadline - world.now)} at most")
    return f"{name(worker.id)} {' '.join(facts)}"
