"""What a settled future holds, and what it comes to once somebody asks."""

from __future__ import annotations

from typing import Any

from warmpool import payload
from warmpool.errors import PayloadError
from warmpool.wire import Body

Verdict = tuple[Any, BaseException | None]
"""A value, or what is to be raised."""


class Box:
    """Holds an encoded result until it is decoded, and then nothing."""

    __slots__ = ("body",)

    def __init__(self, body: Body) -> None:
        self.body = body


class Encoded(Exception):
    """Stands for what the task raised, until somebody asks.

    A future has to be failed with an exception at once, for ``concurrent.futures.wait()`` to
    notice; but unpickling is user code, and not for the supervisor's thread (I2).
    """

    def __init__(self, body: bytes | bytearray) -> None:
        super().__init__()
        self.body = body


def verdict_of(held: Box | Encoded | BaseException) -> Verdict:
    """Decode what a future holds. Runs user code, and raises its KeyboardInterrupt."""
    if isinstance(held, Box):
        return _load(held.body)
    if isinstance(held, Encoded):
        return None, payload.load_error(held.body)
    return None, held.with_traceback(None)


def _load(body: Body) -> Verdict:
    try:
        return payload.loads(body), None
    except (Exception, SystemExit) as error:
        # KeyboardInterrupt passes: it is for this thread, and the next who asks tries again.
        failure = PayloadError(
            f"the task's result could not be unpickled here: {type(error).__name__}: {error}"
        )
        failure.__cause__ = error
        return None, failure
