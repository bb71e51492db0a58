"""Kinds of tasks: what they do, how often they come, and what may become of them undisturbed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import tasks
from tests.helpers import faults, payloads
from tests.helpers.faults import End

MiB = 1 << 20

RIGHT, RAISED = "right", "raised what it was to"
DIED, BROKE, LATE, SILENT = "WorkerDied", "ProtocolError", "TaskTimeout", "WorkerUnresponsive"
LARGE, SOFT, PAYLOAD, LEFT = "MemoryLimitExceeded", "SoftTimeout", "PayloadError", "SystemExit"
WAITED, BROKEN, CLOSED, CANCELLED = "QueueTimeout", "PoolBroken", "PoolClosed", "cancelled"
BEHIND = "WorkerDied for another task"

SHORT, AMPLE = 1.0, 45.0
"""Seconds for tasks that hang on purpose, and for all others, which never need them unless their
worker was stopped."""


@dataclass(frozen=True)
class Job:
    """One task, ready to be submitted.

    Attributes:
        kind: Its kind's name.
        function, arguments: What is called, with the path of the runs' file and its number first.
        ends: What may become of it, undisturbed.
        result: What it returns, if it does.
        options: Of its own.
    """

    kind: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    ends: frozenset[str] = frozenset({RIGHT})
    result: Any = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def is_small(self) -> bool:
        """Whether it is small enough to be laid out."""
        return self.function is not tasks.take_much

    @property
    def may_run_again(self) -> bool:
        return bool(self.options.get("retries"))


_ENDS = {
    End.DIES: frozenset({DIED}),
    # Who does not read its channel any more may be met by a heartbeat that is late, or a limit.
    End.HANGS: frozenset({LATE, SILENT}),
    End.BREAKS: frozenset({BROKE}),
}

_ENDS_TOO = {
    # Its lifeline is among them: a worker that beats often ends itself before it is killed.
    "closes_its_descriptors": frozenset({DIED}),
    # If its server dies, the kernel hangs it up: it is stopped, and its group an orphan by then.
    # And whom another fault, or the call for its stack, has go on may be done before its kill.
    "is_stopped": frozenset({DIED, RIGHT}),
}

Rng = random.Random
Make = Callable[[Rng, int, Path], Job]


def _plain(function: Callable[..., Any], *ends: str) -> Make:
    def make(_rng: Rng, number: int, _folder: Path) -> Job:
        return Job(
            function.__name__,
            function,
            ends=frozenset(ends or {RIGHT}),
            result=tasks.known(number),
        )

    return make


def _for_a_while(function: Callable[..., Any], longest: float) -> Make:
    def make(rng: Rng, number: int, _folder: Path) -> Job:
        name, result = function.__name__, tasks.known(number)
        return Job(name, function, (rng.uniform(0, longest),), result=result)

    return make


def _return_much(rng: Rng, number: int, _folder: Path) -> Job:
    size = rng.choice((1 << 12, 1 << 14, 1 << 17, 3 * MiB))
    return Job("return_much", tasks.return_much, (size,), result=tasks.content(number, size))


def _take_much(rng: Rng, number: int, _folder: Path) -> Job:
    much = tasks.content(number, rng.choice((1 << 12, 1 << 17, 3 * MiB)))
    return Job("take_much", tasks.take_much, (much,), result=tasks.known(number))


def _fault(end: End, *, on_pickling: bool = False) -> Make:
    names = faults.names(end)
    function = tasks.commit_on_pickling if on_pickling else tasks.commit
    options = {"timeout": SHORT} if end is End.HANGS else {}

    def make(rng: Rng, _number: int, _folder: Path) -> Job:
        name = rng.choice(names)
        ends = _ENDS[end] | _ENDS_TOO.get(name, frozenset())
        return Job(name, function, (name,), ends, options=options)

    return make


def _fault_in_an_argument(rng: Rng, _number: int, _folder: Path) -> Job:
    argument = payloads.fault_on_unpickling(rng.choice(faults.names(End.DIES)))
    return Job("dies_unpickling", tasks.take, (argument,), frozenset({DIED}))


def _retried(rng: Rng, number: int, folder: Path) -> Job:
    fault = rng.choice(faults.names(End.DIES))
    arguments = (fault, folder / f"scar-{number}")
    options = {"retries": 20}
    result = tasks.known(number)
    return Job("commit_once", tasks.commit_once, arguments, result=result, options=options)


def _limited(function: Callable[..., Any], *ends: str, **options: float) -> Make:
    def make(_rng: Rng, number: int, _folder: Path) -> Job:
        ends_ = frozenset({LATE, *ends})
        result = tasks.known(number)
        return Job(function.__name__, function, (), ends_, result, options)

    return make


def _inflate(rng: Rng, _number: int, _folder: Path) -> Job:
    # A machine that is slow may come to the limit of time first.
    ends = frozenset({LARGE, LATE})
    return Job("inflate", tasks.inflate, (160 * MiB,), ends, options={"timeout": 8.0})


def _exit(_rng: Rng, _number: int, _folder: Path) -> Job:
    return Job("calls_sys_exit", tasks.commit, ("calls_sys_exit",), frozenset({LEFT}))


INFLATE = _inflate

KINDS: list[tuple[Make, int]] = [
    (_plain(tasks.answer), 60),
    (_for_a_while(tasks.nap, 0.1), 12),
    (_for_a_while(tasks.compute, 0.05), 6),
    (_return_much, 6),
    (_take_much, 6),
    (_plain(tasks.raise_known, RAISED), 6),
    (_plain(tasks.log), 4),
    (_plain(tasks.start_a_program), 2),
    (_plain(tasks.leave_a_program), 1),
    (_plain(tasks.exhaust_descriptors), 2),
    (_plain(tasks.return_unpicklable, PAYLOAD), 3),
    (_plain(tasks.return_unreadable, PAYLOAD), 3),
    (_limited(tasks.clean_up, RIGHT, SOFT, soft_timeout=0.2, timeout=5.0), 2),
    (_limited(tasks.end_early, SOFT, soft_timeout=0.1, timeout=5.0), 2),
    (_exit, 2),
    (_fault(End.DIES), 5),
    (_fault(End.DIES, on_pickling=True), 2),
    (_fault(End.BREAKS), 3),
    (_fault(End.HANGS), 2),
    (_fault_in_an_argument, 2),
    (_retried, 3),
]


def draw(rng: Rng, number: int, folder: Path, *, has_memory_limit: bool) -> Job:
    """A task at random."""
    if has_memory_limit and rng.random() < 0.02:
        return _inflate(rng, number, folder)
    makes, weights = zip(*KINDS, strict=True)
    make: Make = rng.choices(makes, weights)[0]
    return make(rng, number, folder)
