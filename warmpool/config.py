"""The options of a pool, checked where the user gave them."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from warmpool import tray
from warmpool.parts import Dumps
from warmpool.payload import NOTHING, Initializer, dumper, import_modules
from warmpool.start import AVAILABLE
from warmpool.state import Settings

MOST_WORKERS = 10_000
"""More processes than that are a slip of the hand; each slot takes memory here before it starts."""
DEFAULT_HEARTBEAT_INTERVAL = 2.5
DEFAULT_HEARTBEAT_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The limits of a task. Durations in seconds, None for no limit."""

    timeout: float | None = None
    queue_timeout: float | None = None
    retries: int = 0
    soft_timeout: float | None = None

    def __post_init__(self) -> None:
        check_duration("soft_timeout", self.soft_timeout, optional=True)
        check_duration("timeout", self.timeout, optional=True)
        check_duration("queue_timeout", self.queue_timeout, optional=True, zero=True)
        check_count("retries", self.retries, least=0)
        if None not in (self.soft_timeout, self.timeout) and self.soft_timeout >= self.timeout:  # type: ignore[operator]
            raise ValueError(
                f"soft_timeout must be less than the time limit of {self.timeout} s, after which "
                f"the worker is killed, not {self.soft_timeout!r}"
            )


def check_duration(name: str, value: Any, *, optional: bool = False, zero: bool = False) -> None:
    """Check a number of seconds.

    Raises:
        TypeError: It is no number.
        ValueError: It is negative, not finite, or zero where that makes no sense.
    """
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        or_none = " or None" if optional else ""
        raise TypeError(f"{name} must be a number of seconds{or_none}, not {value!r}")
    if not _is_finite(value) or value < 0 or (value == 0 and not zero):
        # An infinite init_timeout or grace would unmake the promise that every future settles.
        raise ValueError(
            f"{name} must be a finite number of seconds, {'0 or more' if zero else 'above 0'}, "
            f"not {value!r}"
        )


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False  # An integer of more digits than a float can hold.


def check_count(name: str, value: Any, *, least: int, optional: bool = False) -> None:
    """Check a whole number.

    Raises:
        TypeError: It is none.
        ValueError: It is less than ``least``.
    """
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer{' or None' if optional else ''}, not {value!r}")
    if value < least:
        # The words of concurrent.futures for the commonest of these.
        wanted = "greater than 0" if least == 1 else f"{least} or more"
        raise ValueError(f"{name} must be {wanted}, not {value!r}")


def settings(
    *,
    max_workers: int | None,
    max_tasks_per_child: int | None,
    min_idle: int | None,
    idle_timeout: float | None,
    worker_lifetime: float | None,
    init_timeout: float,
    grace: float,
    max_queue: int | None,
    heartbeat_interval: float,
    heartbeat_timeout: float | None,
    memory_limit: int | None,
    memory_warning: int | None,
    forwards_logs: bool = False,
    is_observed: bool = False,
) -> Settings:
    """Check the options that the core needs.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is out of its range.
    """
    if max_workers is None:
        max_workers = usable_cpus()
    check_count("max_workers", max_workers, least=1)
    if max_workers > MOST_WORKERS:
        raise ValueError(f"max_workers must be at most {MOST_WORKERS}, not {max_workers}")
    check_count("max_tasks_per_child", max_tasks_per_child, least=1, optional=True)
    check_count("max_queue", max_queue, least=0, optional=True)
    check_count("min_idle", min_idle, least=0, optional=True)
    if min_idle is not None and min_idle > max_workers:
        raise ValueError(f"min_idle must be at most max_workers={max_workers}, not {min_idle}")
    check_duration("idle_timeout", idle_timeout, optional=True)
    if idle_timeout is not None and min_idle is None:
        raise ValueError(
            "idle_timeout retires workers above min_idle, and without that all of max_workers are "
            "kept: give min_idle too"
        )
    check_duration("worker_lifetime", worker_lifetime, optional=True)
    check_duration("init_timeout", init_timeout)
    check_duration("grace", grace, zero=True)
    check_duration("heartbeat_interval", heartbeat_interval)
    check_duration("heartbeat_timeout", heartbeat_timeout, optional=True)
    check_count("memory_limit", memory_limit, least=1, optional=True)
    check_count("memory_warning", memory_warning, least=1, optional=True)
    return Settings(
        max_workers,
        init_timeout,
        grace,
        max_tasks_per_child,
        max_queue,
        heartbeat_interval,
        heartbeat_timeout,
        min_idle,
        idle_timeout,
        worker_lifetime,
        memory_limit,
        memory_warning,
        forwards_logs,
        is_observed,
        # Not where it counts how many wait, and how many a worker has had.
        lays_out=tray.AVAILABLE and max_queue is min_idle is max_tasks_per_child is None,
    )


def check_others(initializer: Any, initargs: Any, on_event: Any, name: Any) -> None:
    """Check what is neither a count nor a duration.

    Raises:
        TypeError: One of them is of the wrong type.
    """
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    if on_event is not None and not callable(on_event):
        raise TypeError(f"on_event must be a callable or None, not {on_event!r}")
    if not isinstance(initargs, Iterable):
        raise TypeError(f"initargs must be a tuple of arguments, not {initargs!r}")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a string or None, not {name!r}")


def log_level(forward_logs: bool | int) -> int | None:
    """The level from which on workers' log records are forwarded, None if they are not.

    Raises:
        TypeError: It is neither a truth value nor a level.
    """
    if not isinstance(forward_logs, int):
        raise TypeError(f"forward_logs must be True, False or a level, not {forward_logs!r}")
    if isinstance(forward_logs, bool):
        return logging.getLogger().getEffectiveLevel() if forward_logs else None
    return forward_logs


def about(pool: str, start_method: str, max_workers: int) -> dict[str, Any]:
    """What ``warmpool top`` is told of a pool once and for all."""
    return {
        "pool": pool,
        "pid": os.getpid(),
        "start_method": start_method,
        "max_workers": max_workers,
    }


def usable_cpus() -> int:
    """The CPUs that this process may use, which is not all of the machine's in a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start_method_name(start_method: str | None, mp_context: Any) -> str:
    """Decide between the two ways to name a start method.

    Raises:
        TypeError: The context is none.
        ValueError: They contradict each other, or name none that exists here.
    """
    if mp_context is not None:
        if not hasattr(mp_context, "get_start_method"):
            raise TypeError(
                "mp_context must be a context of multiprocessing, not "
                f"{mp_context!r}; start_method= takes the name of one"
            )
        name: str = mp_context.get_start_method()
        if start_method not in (None, name):
            raise ValueError(
                f"start_method={start_method!r} and an mp_context of {name!r} contradict each "
                "other: give one of them"
            )
        start_method = name
    if start_method is None:
        return AVAILABLE[0]
    if start_method not in AVAILABLE:
        raise ValueError(
            f"start_method must be one of {', '.join(AVAILABLE)} here, not {start_method!r}"
        )
    return start_method


def preload(given: Any) -> Initializer:
    """What is to be preloaded: the modules of these names, or whatever a callable does.

    Raises:
        TypeError: It is neither.
    """
    if given is None:
        return NOTHING
    if callable(given):
        return Initializer(given)
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, Iterable):
        raise TypeError(f"preload must be names of modules or a callable, not {given!r}")
    names = tuple(names)
    for name in names:
        if not isinstance(name, str) or not all(map(str.isidentifier, name.split("."))):
            raise TypeError(f"preload must be names of modules or a callable, and {name!r} is none")
    return Initializer(import_modules, names)


def pickler_name(pickler: str | None) -> tuple[str, Dumps]:
    """The pickler's name for workers, and its function for here.

    Raises:
        ValueError: There is no such pickler.
        ImportError: It is not installed.
    """
    name = "pickle" if pickler is None else pickler
    if name not in ("pickle", "cloudpickle"):
        raise ValueError(f"pickler must be None, 'pickle' or 'cloudpickle', not {pickler!r}")
    return name, dumper(name)


def refuse_daemonic_parents() -> None:
    """Refuse to make a pool where no worker could be started.

    Raises:
        RuntimeError: This process is daemonic.
    """
    process = multiprocessing.current_process()
    if process.daemon:
        raise RuntimeError(
            "a daemonic process may not have children, so a WarmPool cannot work in one: start "
            f"{process.name!r} with daemon=False (workers of a WarmPool are not daemonic)"
        )


def imports_main() -> bool:
    """Whether this process is a worker, of anybody's, that imports the main module."""
    return getattr(multiprocessing.current_process(), "_inheriting", False)


def refuse_endless_workers() -> None:
    """Refuse to start workers where each would start others.

    Raises:
        RuntimeError: This process imports the main module of another.
    """
    if imports_main():
        raise RuntimeError(
            "a WarmPool was used while a worker imports the main module, which would start "
            "workers without end: put what uses the pool under if __name__ == '__main__':"
        )
