"""Submitting tasks: what a pool shares with its views of other task options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import Any, ParamSpec, Protocol, TypeVar

from warmpool import config, mapping
from warmpool.config import TaskOptions
from warmpool.future import TaskFuture

P = ParamSpec("P")
T = TypeVar("T")

UNCHANGED: Any = object()


class Pool(Protocol):
    """What takes the tasks."""

    def _submit(
        self,
        options: TaskOptions,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> TaskFuture[T]:
        """Submit a task of these options."""


class Submitting(Executor):
    """What a pool and its views share: submit and map."""

    _options: TaskOptions

    @property
    def _pool(self) -> Pool:
        raise NotImplementedError

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> TaskFuture[T]:
        """Have ``fn(*args, **kwargs)`` run in a warm worker.

        The function and its arguments are pickled here, once. What cannot be pickled fails the
        future with :class:`~warmpool.PayloadError`.

        Returns:
            The task's future. It settles: with the result, with what the function raised, or with
            a :class:`~warmpool.WarmpoolError` that says what happened.

        Raises:
            PoolClosed: After ``shutdown()`` or ``close()``, or in a fork of the pool's process.
            PoolBroken: Workers keep failing to get warm; the cause is the last failure.
            PoolSaturated: ``max_queue`` tasks wait already.

        *Threads:* any, callbacks and signal handlers included; does not wait for a worker.
        """
        return self._pool._submit(self._options, fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """As ``map(fn, *iterables)``, in the pool; results come in the order of the inputs.

        Args:
            fn: Called with one item of each iterable.
            iterables: Consumed at once, as ``concurrent.futures`` does, unless ``buffersize`` is
                given; the results are handed out as they are asked for.
            timeout: Seconds from this call to the last result.
            chunksize: How many calls make one task.
            buffersize: The most tasks that are submitted and not yet consumed: for inputs without
                end.

        Raises:
            TimeoutError: While iterating: a result was not there in time.

        When the iterator is closed or fails, what has not started is cancelled.

        *Threads:* as :meth:`submit`; iterating blocks.
        """
        config.check_count("chunksize", chunksize, least=1)
        config.check_count("buffersize", buffersize, least=1, optional=True)
        return mapping.results(self.submit, fn, iterables, timeout, chunksize, buffersize)


class TaskView(Submitting):
    """A pool seen through other task options. It owns nothing."""

    def __init__(self, pool: Pool, options: TaskOptions) -> None:
        self._viewed = pool
        self._options = options

    @property
    def _pool(self) -> Pool:
        return self._viewed

    def options(
        self,
        *,
        timeout: float | None = UNCHANGED,
        queue_timeout: float | None = UNCHANGED,
        retries: int = UNCHANGED,
        soft_timeout: float | None = UNCHANGED,
    ) -> TaskView:
        """As :meth:`WarmPool.options`; what is left out stays as it is in this view."""
        old = self._options
        return TaskView(
            self._pool,
            TaskOptions(
                old.timeout if timeout is UNCHANGED else timeout,
                old.queue_timeout if queue_timeout is UNCHANGED else queue_timeout,
                old.retries if retries is UNCHANGED else retries,
                old.soft_timeout if soft_timeout is UNCHANGED else soft_timeout,
            ),
        )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing: the pool is not the view's to end."""

    def __repr__(self) -> str:
        return f"<{self._options} of {self._pool!r}>"
