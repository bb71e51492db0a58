"""Pools that are executors.  Heavy or optional packages are imported where they are opened."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import ClassVar

from benchmarks import tasks
from benchmarks.stamp import Stamp
from benchmarks.subjects.base import PATIENCE, Ability, ExecutorSession, Session, Subject


class ProcessPool(Subject):
    name: ClassVar[str] = "ppe"
    title: ClassVar[str] = "ProcessPoolExecutor"
    abilities: ClassVar[frozenset[Ability]] = frozenset(
        {Ability.CALL, Ability.FLOOD, Ability.DEATH}
    )

    def open(self, workers: int, start_method: str) -> Session:
        context = multiprocessing.get_context(start_method)
        return ExecutorSession(ProcessPoolExecutor(workers, mp_context=context))


class WarmSession(ExecutorSession):
    def __init__(self, workers: int, start_method: str) -> None:
        from warmpool import WarmPool

        self.pool = WarmPool(workers, start_method=start_method)
        super().__init__(self.pool)

    def wait_ready(self) -> None:
        self.pool.wait_warm(PATIENCE)

    def overrun(self, stamp: Stamp, limit: float) -> None:
        limited = self.pool.options(timeout=limit)
        self._expect_failure(limited.submit(tasks.oversleep, stamp.path, limit + 60.0))

    def close(self) -> None:
        self.pool.close()


class Warm(Subject):
    name: ClassVar[str] = "warmpool"
    title: ClassVar[str] = "warmpool"
    package: ClassVar[str | None] = "warmpool"
    abilities: ClassVar[frozenset[Ability]] = frozenset(Ability)

    def open(self, workers: int, start_method: str) -> Session:
        return WarmSession(workers, start_method)
