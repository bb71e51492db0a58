"""How a worker is started: one replaceable part.

A :class:`StartMethod` makes a started ``multiprocessing`` process of a worker's endpoints. It may
block; it runs on the launcher thread, and :meth:`StartMethod.break_off` is there to unblock it.
Another method needs a class with these members and a line in :func:`start_method`.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.process import BaseProcess
from typing import Protocol

from warmpool import child, forkservers, payload, spawning, zygote

AVAILABLE = tuple(
    name
    for name in ("forkserver", "spawn", "fork")
    if name in multiprocessing.get_all_start_methods()
)
"""The start methods here, the default first."""


class StartMethod(Protocol):
    """Starts workers. *Threads:* the launcher's, but for :meth:`open` and :meth:`break_off`."""

    name: str
    via_server: bool
    """Whether another process than the host is the parent of workers."""
    pickles: bool
    """Whether a worker gets its initializer pickled; else it inherits it."""

    def open(self, initializer: payload.Initializer) -> None:
        """Make ready what is better made early. *Threads:* the pool's maker."""

    def start(self, endpoints: child.Endpoints, name: str) -> BaseProcess:
        """Start a worker's process.

        Raises:
            Exception: Whatever goes wrong: the system's limits, a server that died, …
        """

    def break_off(self) -> None:
        """Make a start that hangs fail, if that can be done. *Threads:* any; never blocks."""

    def close(self) -> None:
        """Let go of what the method keeps between starts. Ends within a bound."""


def start_method(name: str) -> StartMethod:
    """The start method of this name.

    Raises:
        ValueError: There is none here.
    """
    if name not in AVAILABLE:
        raise ValueError(f"start_method must be one of {', '.join(AVAILABLE)} here, not {name!r}")
    methods: dict[str, type[StartMethod]] = {
        "forkserver": forkservers.ForkServer,
        "spawn": spawning.Spawn,
        "fork": zygote.Fork,
    }
    return methods[name]()
