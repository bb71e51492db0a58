"""The numbers of which a snapshot is made, so that it can be sorted and hashed quickly."""

from __future__ import annotations

from typing import Any, TypeAlias

from warmpool import events as ev
from warmpool.ending import Phase
from warmpool.lifecycle import State

Snapshot: TypeAlias = tuple[Any, ...]

NEVER = 1e9
"""No time at all. Above all others, so that places can be sorted."""
NO_TASK = ()
AT_ONCE = -1.0
"""The grace of a kill that has none."""

STATES = tuple(State)
KINDS = tuple(ev.FailureKind)
PHASES = tuple(Phase)
HEALTHS = tuple(ev.Health)
NUMBER = {
    member: number
    for kind in (STATES, KINDS, PHASES, HEALTHS)
    for number, member in enumerate(kind)
}
UNBORN, KILLED, STOPPED, ASKED, DEAF, SILENT, MEASURED, READY, REPORTED, PARDONED = (
    1 << bit for bit in range(10)
)
OUTDATED, DIRECT, LAID = (1 << bit for bit in range(10, 13))
UNUSUAL = KILLED | STOPPED | ASKED | DEAF | PARDONED | OUTDATED | DIRECT | LAID

MAY_HAVE_BEGUN, WAS_LAID_OUT, WAS_SPARED, IS_WITHDRAWN = (1 << bit for bit in range(4))
