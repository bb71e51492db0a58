"""``map()``: many calls as tasks, results lazily and in order."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from warmpool.each import Each

Submit = Callable[..., "Future[Any]"]


def results(
    submit: Submit,
    function: Callable[..., Any],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | None,
    chunksize: int,
    buffersize: int | None,
) -> Iterator[Any]:
    """Submit the calls and give an iterator over their results; see ``WarmPool.map``."""
    end_at = None if timeout is None else time.monotonic() + timeout
    if chunksize == 1:
        tasks = (submit(function, *args) for args in zip(*iterables, strict=False))
    else:
        each = Each(function)
        tasks = (submit(each, *columns) for columns in _chunks(iterables, chunksize))
    # Submitted here and not at the first next(): the caller of map() expects work to begin.
    pending: deque[Future[Any]] = deque()
    try:
        pending.extend(itertools.islice(tasks, buffersize))
    except BaseException:
        _cancel(pending)
        raise
    values = _in_order(pending, tasks, end_at)
    next(values)
    return values if chunksize == 1 else _Flattened.of(values)


def _chunks(iterables: tuple[Iterable[Any], ...], size: int) -> Iterator[tuple[list[Any], ...]]:
    """So many items of each, as a list for each."""
    if len(iterables) == 1:
        items = iter(iterables[0])
        while chunk := list(itertools.islice(items, size)):
            yield (chunk,)
    else:
        rows = zip(*iterables, strict=False)
        while chunk := list(itertools.islice(rows, size)):
            yield tuple(map(list, zip(*chunk, strict=True)))


def _in_order(
    pending: deque[Future[Any]], tasks: Iterator[Future[Any]], end_at: float | None
) -> Generator[Any, None, None]:
    try:
        # Up to here it is brought before anybody has it: a generator that has not begun would not
        # come to its finally, so a consumer that goes away before the first result would leave
        # everything to run.
        yield
        while pending:
            # Popped first: the future, and the result in it, are let go of before the consumer
            # has its turn.
            yield _result(pending, end_at)
            pending.extend(itertools.islice(tasks, 1))
    finally:
        _cancel(pending)


class _Flattened(itertools.chain[Any]):
    """The results in chunks, one by one: at a third of what a generator would take for each.

    A chunk is kept until all of it has been consumed.
    """

    _chunks: Generator[list[Any], None, None]

    @classmethod
    def of(cls, chunks: Generator[list[Any], None, None]) -> _Flattened:
        """A new one."""
        made = cls.from_iterable(_OneByOne(chunks))
        assert isinstance(made, _Flattened)
        made._chunks = chunks
        return made

    def close(self) -> None:
        """Give no more results, and call off what has not begun, as a generator does."""
        self._chunks.close()
        deque(self, maxlen=0)  # What is left of the present chunk.


class _OneByOne:
    """Has threads wait for each other.

    A generator refuses the second one that asks, and a chain is at its end after any error.
    """

    def __init__(self, chunks: Iterator[list[Any]]) -> None:
        self._chunks = chunks
        self._lock = threading.RLock()

    def __iter__(self) -> Iterator[list[Any]]:
        return self

    def __next__(self) -> list[Any]:
        with self._lock:
            return next(self._chunks)


def _result(pending: deque[Future[Any]], end_at: float | None) -> Any:
    remaining = None if end_at is None else end_at - time.monotonic()
    result = pending[0].result(remaining)
    pending.popleft()
    return result


def _cancel(pending: Iterable[Future[Any]]) -> None:
    for future in pending:
        future.cancel()
