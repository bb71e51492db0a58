"""Tasks that have a pool, or processes, of their own."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from typing import Any

from tests.helpers import tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.waiting import BOUND
from warmpool import WarmPool


def run_in_a_pool(start_method: str) -> tuple[int, int]:
    """The pids of this process and of a worker of its own."""
    with WarmPool(1, start_method=start_method) as pool:
        return os.getpid(), pool.submit(tasks.own_pid).result(BOUND)


_kept: list[WarmPool] = []


def leave_a_pool_open(start_method: str) -> int:
    """The pid of a worker whose pool nobody closes."""
    pool = WarmPool(1, start_method=start_method)
    _kept.append(pool)
    return pool.submit(tasks.own_pid).result(BOUND)


def hold_in_a_pool(start_method: str, gate: Gate) -> Any:
    with WarmPool(1, start_method=start_method) as pool:
        return pool.submit(hold, gate).result()


def report_a_pool(to: Connection) -> None:
    """Try to make a pool, and tell what came of it."""
    try:
        with WarmPool(1) as pool:
            to.send(f"made {pool!r}")
    except BaseException as error:
        to.send(f"{type(error).__name__}: {error}")


def map_in_a_multiprocessing_pool(values: list[int]) -> list[int]:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(tasks.echo, values)
