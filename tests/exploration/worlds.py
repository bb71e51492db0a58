"""The worlds that are explored: small ones in all tests, larger ones when there is time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.exploration.case import LIMIT, Case, a_task, some_settings, with_trays
from warmpool.events import SMALL as SMALL_SIZE
from warmpool.events import TaskSpec

LIMITED = a_task(1, timeout=LIMIT, retries=1)
PATIENT = a_task(2)
IMPATIENT = a_task(3, queue_timeout=LIMIT)
SOFT = a_task(1, timeout=LIMIT, soft_timeout=LIMIT / 2)

THIS_ONE = a_task(1, name="this one")


def some_tasks(number: int, **options: Any) -> tuple[TaskSpec, ...]:
    """So many that are all alike, beside the first one."""
    return tuple(a_task(2 + id, **options) for id in range(number))


_TRAYS: dict[str, Any] = {"is_warm": True, "bursts": True, "lies": ()}
"""Of four tasks that one worker has, or of seven that two have, one is laid out. They may as well
come at once: all their orders are met when some of them are answered and come again."""

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
    "late": Case(some_settings(1), (LIMITED, IMPATIENT), faults=0, is_late=True),
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
    "two workers end": Case(
        some_settings(2), (PATIENT,), lies=(), **{**_ALL_CALLERS, "kills": False}
    ),
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
    "reload": Case(
        some_settings(1), (PATIENT,), lies=(), reloads=True, passes=True, leases=True, waiters=True
    ),
    "two workers, reloaded": Case(
        some_settings(2), (PATIENT,), faults=0, lies=(), reloads=True, passes=True, shutdowns=True
    ),
    "a tray": Case(
        with_trays(1),
        some_tasks(4),
        is_warm=True,
        bursts=True,
        is_full=True,
        shutdowns=True,
        close_timeouts=(None,),
    ),
    "a tray, reloaded": Case(
        with_trays(1), some_tasks(4), faults=0, reloads=True, passes=True, leases=True, **_TRAYS
    ),
    "a tray, kills": Case(
        with_trays(1),
        (THIS_ONE, *some_tasks(3)),
        faults=0,
        concerned=(1,),
        kills=True,
        kill_grace=0.25,
        **_TRAYS,
    ),
    "a tray, cancelled": Case(
        with_trays(1),
        (THIS_ONE, *some_tasks(3)),
        faults=0,
        concerned=(1,),
        cancels=True,
        withdrawals=True,
        shutdowns=True,
        **_TRAYS,
    ),
    "a tray, limits": Case(
        with_trays(1), some_tasks(4, timeout=LIMIT, soft_timeout=LIMIT / 2), faults=0, **_TRAYS
    ),
    "two trays": Case(with_trays(2), some_tasks(7), faults=0, **_TRAYS),
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
    "one worker, late": Case(some_settings(1), (LIMITED, IMPATIENT), is_late=True),
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
    "two workers, reloaded, one fault": Case(
        some_settings(2), (PATIENT,), reloads=True, passes=True, leases=True, **_ALL_CALLERS
    ),
    "a tray, from the beginning": Case(
        with_trays(1), some_tasks(6), is_full=True, leases=True, passes=True, **_ALL_CALLERS
    ),
    "a tray, kills and a fault": Case(
        with_trays(1),
        (THIS_ONE, *some_tasks(3)),
        concerned=(1,),
        kills=True,
        kill_grace=0.25,
        withdrawals=True,
        **_TRAYS,
    ),
    "a tray, limits and retries": Case(
        with_trays(1), some_tasks(4, timeout=LIMIT, retries=1), **_TRAYS
    ),
    "a tray, large and impatient tasks": Case(
        with_trays(1),
        (a_task(1, size=SMALL_SIZE + 1), *some_tasks(4), a_task(6, queue_timeout=LIMIT)),
        **_TRAYS,
    ),
    "two trays and a fault": Case(with_trays(2), some_tasks(7), is_full=True, **_TRAYS),
    "two trays that end": Case(
        with_trays(2), some_tasks(7), shutdowns=True, close_timeouts=(None, 0.0), **_TRAYS
    ),
    "two trays, heartbeats": Case(
        with_trays(2, heartbeat_interval=1.0, heartbeat_timeout=2.0),
        some_tasks(7),
        silence=True,
        **_TRAYS,
    ),
    "three workers, one task": a_case(3, 1, 2, callers=False),
    "three elastic workers": a_case(3, 2, 0, callers=False, min_idle=1, idle_timeout=LIMIT),
}
"""Those that take a while."""
