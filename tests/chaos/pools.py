"""The pools of a host: every start method, and options that come into each other's way."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.chaos import kinds
from tests.helpers import policies
from warmpool import WarmPool, notices, tray
from warmpool.restart import RestartPolicy

MiB = 1 << 20

TOUCHY = RestartPolicy(first_delay=0.02, longest_delay=0.2, failures_per_slot=2)
"""Counts as broken soon, and heals soon."""


@dataclass(frozen=True)
class Design:
    """How a pool is made.

    Attributes:
        label: What it is called here.
        method, options: As ``WarmPool`` has them.
        policy: Of restarts.
    """

    label: str
    method: str
    options: dict[str, Any]
    policy: RestartPolicy = policies.PATIENT

    @property
    def finds_the_stopped(self) -> bool:
        """Whether a worker may be stopped for good."""
        return self.options.get("heartbeat_timeout") is not None

    @property
    def has_memory_limit(self) -> bool:
        return "memory_limit" in self.options

    @property
    def has_trays(self) -> bool:
        """Whether tasks are laid out for workers that have another one."""
        without = {"max_queue", "max_tasks_per_child", "min_idle"}
        return tray.AVAILABLE and not without & self.options.keys()

    @property
    def tolerates(self) -> set[str]:
        """What may become of any of its tasks."""
        ends = set()
        if self.policy is not policies.PATIENT:
            ends.add(kinds.BROKEN)
        if "queue_timeout" in self.options:
            ends.add(kinds.WAITED)
        return ends

    def make(self, watch: Callable[[Any], None]) -> WarmPool:
        """Make it.

        Args:
            watch: Told of its events, if it is one that tells.
        """
        options = dict(self.options)
        if options.pop("watched", False):
            options["on_event"] = watch
        with policies.use(self.policy):
            return WarmPool(start_method=self.method, name=self.label, **options)


# A machine with every core taken several times may keep a worker from beating for seconds.
_BEATS = {"heartbeat_interval": 0.25, "heartbeat_timeout": 10.0}
_NO_BEATS = {"heartbeat_timeout": None, "task_timeout": 45.0}
_COMMON = {"grace": 0.3, "init_timeout": 15.0}
_ELASTIC = {"max_workers": 3, "min_idle": 0, "idle_timeout": 0.3}

DESIGNS = [
    Design("fork-plain", "fork", {"max_workers": 2, **_NO_BEATS, **_COMMON}),
    Design(
        "fork-noisy",
        "fork",
        {
            "max_workers": 2,
            "max_tasks_per_child": 5,
            "forward_logs": logging.WARNING,
            "watched": True,
            **_BEATS,
            **_COMMON,
        },
    ),
    Design(
        "server-elastic",
        "forkserver",
        {**_ELASTIC, "memory_limit": 120 * MiB, **_NO_BEATS, **_COMMON},
    ),
    Design(
        "server-watched",
        "forkserver",
        {"max_workers": 2, "monitor": True, "preload": "tests.chaos.tasks", **_BEATS, **_COMMON},
    ),
    Design(
        "spawn-queueing",
        "spawn",
        {"max_workers": 2, "max_queue": 20, "queue_timeout": 3.0, **_BEATS, **_COMMON},
    ),
    Design(
        "template-reloaded",
        "template",
        {
            "max_workers": 2,
            "preload": "tests.chaos.tasks",
            "monitor": True,
            "memory_limit": 120 * MiB,
            **_BEATS,
            **_COMMON,
        },
    ),
    Design(
        "template-touchy",
        "template",
        {"max_workers": 3, "min_idle": 1, "worker_lifetime": 2.0, **_NO_BEATS, **_COMMON},
        TOUCHY,
    ),
    Design(
        "template-elastic",
        "template",
        {**_ELASTIC, "max_tasks_per_child": 1, "watched": True, **_BEATS, **_COMMON},
    ),
]


class Watcher:
    """Is told of events: slow at times, and of no manners.

    Args:
        seed: Decides when.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self.told = 0

    def __call__(self, notice: notices.Notice) -> None:
        self.told += 1
        if self._random.random() < 0.02:
            time.sleep(self._random.uniform(0, 0.2))
        if self._random.random() < 0.01:
            raise ValueError(f"no manners: {type(notice).__name__}")
