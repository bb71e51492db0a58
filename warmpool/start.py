"""How a worker is started: one replaceable part.

A :class:`StartMethod` makes a started ``multiprocessing`` process of a worker's endpoints. It may
block; it runs on the launcher thread, and :meth:`StartMethod.break_off` is there to unblock it.
Another method needs a class with these members and a line in :func:`start_method`.
"""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.process import BaseProcess
from typing import Protocol

from warmpool import child, forkservers, spawning, template, zygote
from warmpool.plan import News, Plan

AVAILABLE = (
    *(["template"] if sys.platform == "linux" else []),
    *(
        name
        for name in ("forkserver", "spawn", "fork")
        if name in multiprocessing.get_all_start_methods()
    ),
)
"""The start methods here, the default first: the fastest of those that are safe beside threads."""


class StartMethod(Protocol):
    """Starts workers. *Threads:* the launcher's, but for :meth:`open` and :meth:`break_off`."""

    name: str
    via_server: bool
    """Whether another process than the host is the parent of workers."""
    pickles: bool
    """Whether a worker gets its initializer pickled; else it inherits it."""

    def open(self, plan: Plan, news: News) -> None:
        """Make ready what is better made early. *Threads:* the pool's maker."""

    def start(self, endpoints: child.Endpoints, name: str, ordered_at: float) -> BaseProcess:
        """Start a worker's process.

        Args:
            endpoints: For it.
            name: Of the process.
            ordered_at: When the start was ordered (monotonic).

        Raises:
            Exception: Whatever goes wrong: the system's limits, a server that died, …
        """

    def renew(self) -> None:
        """See to what is kept between starts: it has died, as the news' descriptor told."""

    def reload(self) -> None:
        """Preload anew. *Threads:* any; blocks.

        Raises:
            TemplateFailed: That failed, and nothing has changed.
            RuntimeError: The method keeps nothing that has preloaded.
        """

    def break_off(self) -> None:
        """Make a start that hangs fail, if that can be done. *Threads:* any; never blocks."""

    def abandon(self) -> None:
        """Begin nothing more, and break off what is not for a start. *Threads:* any."""

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
        "template": template.TemplateMethod,
    }
    return methods[name]()
