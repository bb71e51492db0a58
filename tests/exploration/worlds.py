"""The worlds that are explored: small ones in all tests, larger ones when there is time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.exploration.case import LIMIT, Case, a_task, some_settings

LIMITED = a_task(1, timeout=LIMIT, retries=1)
PATIENT = a_task(2)
IMPATIENT = a_task(3, queue_timeout=LIMIT)
SOFT = a_task(1, timeout=LIMIT, soft_timeout=LIMIT / 2)

_ALL_CALLERS: dict[str, Any] = {
    "waiters": True,
    "cancels": True,
    "kills": True,
    "shutdowns": True,
    "close_timeouts": (None, 0.0),
}

SMALL: dict[str, Case] = {
    # One worker, and no end to what may go wrong.
    "everything goes wrong": Case(
        some_settings(1), (LIMITED,), None, ("done", "ready", "greet"), ghosts=True, **_ALL_CALLERS
    ),
    "late": Case(some_settings(1), (LIMITED, IMPATIENT), is_late=True),
    "everything goes wrong, late": Case(
        some_settings(1), (LIMITED,), None, is_late=True, **_ALL_CALLERS
    ),
    "soft limit": Case(
        some_settings(1), (SOFT, IMPATIENT), kills=True, kill_grace=0.25, leases=True
    ),
    "recycling": Case(
        some_settings(1, max_tasks_per_child=1, max_queue=1), (PATIENT, IMPATIENT), cancels=True
    ),
    "two workers": Case(some_settings(2), (PATIENT,), faults=2, leases=True),
    "two workers end": Case(some_settings(2), (PATIENT,), lies=(), **_ALL_CALLERS),
    "three workers": Case(some_settings(3), (PATIENT,), lies=()),
    "elastic": Case(
        some_settings(2, min_idle=0, idle_timeout=LIMIT), (PATIENT,), shutdowns=True, waiters=True
    ),
    "elastic, one ready": Case(some_settings(2, min_idle=1), (PATIENT,), kills=True),
    "heartbeats": Case(
        some_settings(1, heartbeat_interval=1.0, heartbeat_timeout=2.0),
        (LIMITED,),
        silence=True,
        close_timeouts=(None,),
    ),
    "memory": Case(
        some_settings(1, memory_limit=100, memory_warning=50), (LIMITED,), memory=(60, 200)
    ),
    "lifetime": Case(some_settings(1, worker_lifetime=3.0), (PATIENT,), shutdowns=True),
}
"""Those that are explored to their ends whenever tests run."""


def a_case(
    workers: int,
    tasks: int,
    faults: int | None,
    *,
    late: bool = False,
    callers: bool = True,
    **settings: Any,
) -> Case:
    """A case of a certain size."""
    kinds = (LIMITED, PATIENT, IMPATIENT)
    case = Case(
        some_settings(workers, **settings), kinds[:tasks], faults, is_late=late, leases=callers
    )
    return replace(case, **_ALL_CALLERS) if callers else case


LARGE: dict[str, Case] = {
    "one worker, two tasks, no end of faults": a_case(1, 2, None),
    "one worker, three tasks": a_case(1, 3, 1),
    "two workers, one task": a_case(2, 1, 1),
    "two workers, two faults": a_case(2, 1, 2),
    "two workers, two tasks": a_case(2, 2, 1),
    "two workers with a limited task end": Case(some_settings(2), (LIMITED,), **_ALL_CALLERS),
    "two workers, late": a_case(2, 1, 1, late=True),
    "two workers, recycled": a_case(2, 2, 1, max_tasks_per_child=1, max_queue=0),
    "two elastic workers": a_case(2, 2, 1, min_idle=0, idle_timeout=LIMIT),
    "two elastic workers, one ready": a_case(2, 2, 1, min_idle=1, idle_timeout=LIMIT),
    "two workers with heartbeats": replace(
        a_case(2, 1, 1, heartbeat_interval=1.0, heartbeat_timeout=2.0), silence=True
    ),
    "two workers that grow": replace(a_case(2, 1, 1, memory_limit=100), memory=(200,)),
    "two workers that age": a_case(2, 1, 1, worker_lifetime=3.0),
    "three workers, one task": a_case(3, 1, 2, callers=False),
    "three elastic workers": a_case(3, 2, 0, callers=False, min_idle=1, idle_timeout=LIMIT),
}
"""Those that take a while."""
