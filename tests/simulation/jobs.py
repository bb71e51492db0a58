"""What tasks do in a simulation: they are called for their values alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from warmpool.each import Each


class JobError(Exception):
    """What a task raises of itself."""


def job(number: int, seconds: float, size: int = 0, raises: bool = False) -> tuple[int, bytes]:
    """A task that would take so many seconds."""
    if raises:
        raise JobError(number)
    return number, b"x" * size


def big_job(number: int, seconds: float, size: int, ballast: bytes) -> tuple[int, bytes]:
    """The same, with much to be sent to the worker."""
    return job(number, seconds, size)


def parts(function: Callable[..., Any], args: tuple[Any, ...]) -> list[tuple[int, float]]:
    """Number and duration of each job in a task."""
    if isinstance(function, Each):
        return list(zip(args[0], args[1], strict=True))
    return [(args[0], args[1])]
