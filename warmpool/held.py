"""One live worker as the fleet holds it, and what its messages are to the core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from warmpool import events as ev
from warmpool import wire
from warmpool.channel import Channel
from warmpool.process import WorkerProcess
from warmpool.turns import Steps

_Made = Callable[[int, int, Any], ev.WorkerEvent]

SAID: dict[int, _Made] = {
    wire.HELLO: lambda worker, task, body: ev.WorkerGreeted(worker),
    wire.READY: lambda worker, task, body: ev.WorkerReady(worker),
    wire.INITIALIZER_RAISED: lambda worker, task, body: ev.InitializerRaised(worker, body),
    wire.RETURNED: lambda worker, task, body: ev.TaskDone(worker, task, ev.Outcome.RETURNED, body),
    wire.RAISED: lambda worker, task, body: ev.TaskDone(worker, task, ev.Outcome.RAISED, body),
}
assert frozenset(SAID) | {wire.LOG, wire.RESULT_PART} == wire.FROM_WORKER


@dataclass(slots=True)
class Held:
    """A worker's process and channel, and how they are watched."""

    process: WorkerProcess
    channel: Channel
    lays_out: bool = False
    """Whether its last task went by its tray, so that others may be laid out behind it."""
    listening: bool = True
    """Whether the data channel is watched. Not after its end, nor after garbage."""
    is_dead: bool = False
    """Whether it is known to be, so that its exit is all that is yet to be told of it."""
    status_watch: int | None = None
    """Watched for a late exit status."""
    is_being_read: bool = False
    """Whether another thread may be taking something from the data channel."""
    steps: Steps | None = None
    """For turns; see :mod:`warmpool.turns`."""
