"""Restart policies for tests: the default one takes minutes to come to its longest delay.

A policy is no option of the pool. :func:`use` replaces it where options become settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from warmpool import config
from warmpool.restart import RestartPolicy
from warmpool.state import Settings

PATIENT = RestartPolicy(first_delay=0.02, longest_delay=0.1, failures_per_slot=1_000_000)
"""Replaces quickly and never gives up: for pools that fail a hundred times."""

STRICT = RestartPolicy(first_delay=0.02, longest_delay=0.1, failures_per_slot=0)
"""One failed start with no worker warm, and the pool is broken."""


@contextmanager
def use(policy: RestartPolicy) -> Iterator[None]:
    """Give this policy to the pools that are made meanwhile."""
    make = config.settings

    def settings(*args: Any, **options: Any) -> Settings:
        return replace(make(*args, **options), restart=policy)

    config.settings = settings
    try:
        yield
    finally:
        config.settings = make
