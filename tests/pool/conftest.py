"""One pool for many tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers import leaks
from tests.helpers.waiting import BOUND, until
from warmpool import WarmPool


@pytest.fixture(scope="module")
def module_pool(start_method: str) -> Iterator[WarmPool]:
    with leaks.nothing_left():
        pool = WarmPool(2, start_method=start_method)
        pool.wait_warm(BOUND)
        yield pool
        pool.close(BOUND)
        del pool


@pytest.fixture
def shared_pool(module_pool: WarmPool) -> Iterator[WarmPool]:
    """A pool of two workers, both idle."""
    yield module_pool
    until(lambda: module_pool.stats().workers == {"idle": 2}, "the pool is at rest")
