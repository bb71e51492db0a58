"""Waiting for things with a bound that only a hang exceeds."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

BOUND = 20.0
"""Seconds. Nothing here takes a tenth of it; a test that meets it has caught a hang."""


def until(condition: Callable[[], T], what: str, bound: float = BOUND) -> T:
    """Poll for what the operating system gives no event for, and return the first truth."""
    give_up_at = time.monotonic() + bound
    while not (value := condition()):
        assert time.monotonic() < give_up_at, f"not within {bound:g} s: {what}"
        time.sleep(0.005)
    return value


def outcome(future: Future[Any]) -> BaseException | None:
    """What the future failed with, None for a result; fails the test if it stays pending."""
    try:
        return future.exception(BOUND)
    except TimeoutError:
        raise AssertionError(f"pending for {BOUND:g} s: {future!r}") from None
