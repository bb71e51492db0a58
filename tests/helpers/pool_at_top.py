"""A module that makes a pool as it is imported, and has the pool's initializer and tasks in it.

Workers import it to find those. Imported by hosts of their own only.
"""

from __future__ import annotations

import os
from typing import Any

from warmpool import WarmPool

_warm = False


def warm_up() -> None:
    global _warm
    _warm = True


def is_warm() -> bool:
    return _warm


def describe() -> tuple[str, int, str]:
    """What a worker sees of the pool that it has imported, and has not used."""
    return repr(POOL), len(POOL.stats().workers), POOL.health.value


def use_and_close() -> list[Any]:
    """In a worker: use the pool of this module, then end it."""
    try:
        return [POOL.submit(is_warm).result(), POOL.start_method]
    finally:
        POOL.close()


def close_unused() -> str:
    """In a worker: end the pool of this module, which was never used."""
    POOL.close()
    POOL.shutdown()
    try:
        POOL.submit(is_warm)
    except RuntimeError as error:
        return type(error).__name__ + POOL.health.value
    return "it took a task"


POOL = WarmPool(1, initializer=warm_up, start_method=os.environ["POOL_AT_TOP"])
