"""``map()``: many calls as tasks, results lazily and in order."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from warmpool import child

Submit = Callable[..., "Future[Any]"]


def results(
    submit: Submit,
    function: Callable[..., Any],
    calls: Iterable[tuple[Any, ...]],
    timeout: float | None,
    chunksize: int,
    buffersize: int | None,
) -> Iterator[Any]:
    """Submit the calls and give an iterator over their results; see ``WarmPool.map``."""
    end_at = None if timeout is None else time.monotonic() + timeout
    if chunksize == 1:
        tasks = (submit(function, *args) for args in calls)
    else:
        chunks = _chunks(calls, chunksize)
        tasks = (submit(child.run_chunk, function, chunk) for chunk in chunks)
    # Submitted here and not at the first next(): the caller of map() expects work to begin.
    pending: deque[Future[Any]] = deque()
    try:
        pending.extend(itertools.islice(tasks, buffersize))
    except BaseException:
        _cancel(pending)
        raise
    values = _in_order(pending, tasks, end_at)
    if chunksize > 1:
        values = _flattened(values)
    return _Results(values, pending)


class _Results(Iterator[Any]):
    """A generator that cancels what is left even if it was never started."""

    def __init__(self, values: Generator[Any, None, None], pending: deque[Future[Any]]) -> None:
        self._values = values
        self._pending = pending

    def __next__(self) -> Any:
        return next(self._values)

    def close(self) -> None:
        """Cancel what has not started."""
        self._values.close()
        _cancel(self._pending)

    def __del__(self) -> None:
        self.close()


def _chunks(calls: Iterable[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    iterator = iter(calls)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def _in_order(
    pending: deque[Future[Any]], tasks: Iterator[Future[Any]], end_at: float | None
) -> Generator[Any, None, None]:
    try:
        while pending:
            # Popped first: the future, and the result in it, are let go of before the consumer
            # has its turn.
            yield _result(pending, end_at)
            pending.extend(itertools.islice(tasks, 1))
    finally:
        _cancel(pending)


def _flattened(chunks: Generator[list[Any], None, None]) -> Generator[Any, None, None]:
    with contextlib.closing(chunks):
        for chunk in chunks:
            chunk.reverse()
            while chunk:
                yield chunk.pop()


def _result(pending: deque[Future[Any]], end_at: float | None) -> Any:
    remaining = None if end_at is None else end_at - time.monotonic()
    result = pending[0].result(remaining)
    pending.popleft()
    return result


def _cancel(pending: Iterable[Future[Any]]) -> None:
    for future in pending:
        future.cancel()
