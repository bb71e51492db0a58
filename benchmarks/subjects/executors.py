"""Pools that are executors.  Heavy or optional packages are imported where they are opened."""

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from benchmarks import tasks
from benchmarks.subjects.base import (
    PATIENCE,
    Ability,
    NotAvailableError,
    Opening,
    PoolSession,
    Session,
    Subject,
)


class ExecutorSession(PoolSession):
    """Any `concurrent.futures.Executor`."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def submit(self, function: Any, *arguments: Any) -> "Future[Any]":
        return self.executor.submit(function, *arguments)

    def wait(self, handle: "Future[Any]") -> Any:
        return handle.result()

    def map_over(self, items: Sequence[int], chunk: int) -> list[int]:
        return list(self.executor.map(tasks.same, items, chunksize=chunk))

    def close(self) -> None:
        self.executor.shutdown(wait=True, cancel_futures=True)


class ProcessPoolSession(ExecutorSession):
    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        super().__init__(self._new())

    def _new(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context(self._opening.start_method)
        tasks_per_child = 1 if self._opening.fresh else None
        return ProcessPoolExecutor(
            self._opening.workers, context, max_tasks_per_child=tasks_per_child
        )

    def revive(self) -> None:
        self.executor = self._new()


class ProcessPool(Subject):
    name: ClassVar[str] = "ppe"
    title: ClassVar[str] = "ProcessPoolExecutor"
    abilities: ClassVar[frozenset[Ability]] = frozenset(
        {
            Ability.CALL,
            Ability.FLOOD,
            Ability.MAP,
            Ability.VALUES,
            Ability.QUEUE,
            Ability.DEATH,
            Ability.REPLACE,
            Ability.FRESH,
        }
    )

    def open(self, opening: Opening) -> Session:
        if opening.fresh and opening.start_method == "fork":
            raise NotAvailableError("ProcessPoolExecutor refuses max_tasks_per_child under fork")
        return ProcessPoolSession(opening)


class WarmSession(ExecutorSession):
    def __init__(self, opening: Opening) -> None:
        from warmpool import WarmPool

        options: dict[str, Any] = {"start_method": opening.start_method}
        if opening.fresh:
            options["max_tasks_per_child"] = 1
        if opening.demand:
            options["min_idle"] = 0
        if opening.preload is not None:
            options["preload"] = partial(tasks.preload, opening.preload)
        try:
            self.pool = WarmPool(opening.workers, **options)
        except NotImplementedError as refusal:
            raise NotAvailableError(str(refusal).partition(":")[0]) from refusal
        super().__init__(self.pool)

    def wait_ready(self) -> None:
        self.pool.wait_warm(PATIENCE)

    def assemble(self, workers: int) -> None:
        self.wait_ready()

    def vacate(self) -> None:
        while sum(self.pool.stats().workers.values()):
            time.sleep(0.001)

    def submit_limited(self, limit: float, function: Any, *arguments: Any) -> "Future[Any]":
        return self.pool.options(timeout=limit).submit(function, *arguments)

    def close(self) -> None:
        self.pool.close()


class Warm(Subject):
    name: ClassVar[str] = "warmpool"
    title: ClassVar[str] = "warmpool"
    package: ClassVar[str | None] = "warmpool"
    abilities: ClassVar[frozenset[Ability]] = frozenset(Ability) - {Ability.PRELOAD}

    def open(self, opening: Opening) -> Session:
        return WarmSession(opening)


class WarmTemplate(Subject):
    """The same with its default start method, which takes the place of the fork server."""

    name: ClassVar[str] = "template"
    title: ClassVar[str] = "warmpool, template"
    package: ClassVar[str | None] = "warmpool"
    abilities: ClassVar[frozenset[Ability]] = frozenset(Ability)
    start_methods: ClassVar[frozenset[str]] = frozenset({"forkserver"})

    def open(self, opening: Opening) -> Session:
        return WarmSession(replace(opening, start_method="template"))
