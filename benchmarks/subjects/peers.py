"""Other pools, each as its documentation opens it and with room for what the figures ask.

A package that is not installed leaves its subject out; `benchmarks` is the extra that has them all.
"""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from benchmarks import tasks
from benchmarks.subjects.base import Ability, Opening, PoolSession, Session, Subject
from benchmarks.subjects.executors import ExecutorSession

COMMON = frozenset({Ability.CALL, Ability.FLOOD, Ability.MAP, Ability.VALUES, Ability.QUEUE})
# Even if the task's end is never told: then the figure says so.
DEATHS = frozenset({Ability.DEATH, Ability.REPLACE})


class MultiprocessingSession(PoolSession):
    """`multiprocessing.Pool`, or billiard's pool, which is a descendant of it."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def submit(self, function: Any, *arguments: Any) -> Any:
        return self.pool.apply_async(function, arguments)

    def wait(self, handle: Any) -> Any:
        return handle.get()

    def map_over(self, items: Sequence[int], chunk: int) -> list[int]:
        results: list[int] = self.pool.map(tasks.same, items, chunk)
        return results

    def submit_limited(self, limit: float, function: Any, *arguments: Any) -> Any:
        return self.pool.apply_async(function, arguments, timeout=limit)

    def close(self) -> None:
        self.pool.terminate()
        self.pool.join()


class MultiprocessingPool(Subject):
    name: ClassVar[str] = "mp.Pool"
    title: ClassVar[str] = "multiprocessing.Pool"
    abilities: ClassVar[frozenset[Ability]] = COMMON | DEATHS | {Ability.FRESH}

    def open(self, opening: Opening) -> Session:
        context = multiprocessing.get_context(opening.start_method)
        tasks_per_child = 1 if opening.fresh else None
        return MultiprocessingSession(
            context.Pool(opening.workers, maxtasksperchild=tasks_per_child)
        )


class _OsWithoutExit:
    """billiard ends the whole program (`os._exit`) when one of its threads fails: not this one."""

    def __init__(self) -> None:
        self._host = os.getpid()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _exit(self, code: int) -> None:
        if os.getpid() != self._host:
            os._exit(code)
        sys.exit(code)  # Ends the thread.


class Billiard(Subject):
    name: ClassVar[str] = "billiard"
    title: ClassVar[str] = "billiard.Pool"
    package: ClassVar[str | None] = "billiard"
    abilities: ClassVar[frozenset[Ability]] = COMMON | DEATHS | {Ability.LIMIT, Ability.FRESH}

    def open(self, opening: Opening) -> Session:
        import billiard.pool

        module: Any = billiard.pool
        module.os = _OsWithoutExit()
        return MultiprocessingSession(
            module.Pool(
                opening.workers,
                maxtasksperchild=1 if opening.fresh else None,
                enable_timeouts=True,  # Without it, a task's own limit is ignored.
                context=billiard.get_context(opening.start_method),
            )
        )


class PebbleSession(ExecutorSession):
    """Its futures are those of `concurrent.futures`, its calls are not."""

    def submit(self, function: Any, *arguments: Any) -> Any:
        return self.executor.schedule(function, args=arguments)  # type: ignore[attr-defined]

    def submit_limited(self, limit: float, function: Any, *arguments: Any) -> Any:
        return self.executor.schedule(  # type: ignore[attr-defined]
            function, args=arguments, timeout=limit
        )

    def map_over(self, items: Sequence[int], chunk: int) -> list[int]:
        future: Any = self.executor.map(tasks.same, items, chunksize=chunk)
        return list(future.result())

    def close(self) -> None:
        self.executor.stop()  # type: ignore[attr-defined]
        self.executor.join()  # type: ignore[attr-defined]


class Pebble(Subject):
    name: ClassVar[str] = "pebble"
    title: ClassVar[str] = "pebble.ProcessPool"
    package: ClassVar[str | None] = "pebble"
    abilities: ClassVar[frozenset[Ability]] = COMMON | DEATHS | {Ability.LIMIT, Ability.FRESH}

    def open(self, opening: Opening) -> Session:
        import pebble

        context = multiprocessing.get_context(opening.start_method)
        tasks_per_child = 1 if opening.fresh else 0
        return PebbleSession(
            pebble.ProcessPool(opening.workers, max_tasks=tasks_per_child, context=context)
        )


class LokySession(ExecutorSession):
    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        super().__init__(self._new())

    def _new(self) -> Any:
        from loky import ProcessPoolExecutor
        from loky.backend import get_context

        return ProcessPoolExecutor(self._opening.workers, context=get_context("loky"))

    def revive(self) -> None:
        self.executor = self._new()

    def close(self) -> None:
        self.executor.shutdown(wait=True, kill_workers=True)  # type: ignore[call-arg]


class Loky(Subject):
    """With its own start method, which starts an interpreter as spawn does."""

    name: ClassVar[str] = "loky"
    title: ClassVar[str] = "loky"
    package: ClassVar[str | None] = "loky"
    abilities: ClassVar[frozenset[Ability]] = COMMON | DEATHS
    start_methods: ClassVar[frozenset[str]] = frozenset({"forkserver", "spawn"})

    def open(self, opening: Opening) -> Session:
        return LokySession(opening)


class MpireSession(MultiprocessingSession):
    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        super().__init__(self._new())

    def _new(self) -> Any:
        from mpire import WorkerPool

        method = self._opening.start_method
        return WorkerPool(self._opening.workers, start_method=method, keep_alive=True)

    def map_over(self, items: Sequence[int], chunk: int) -> list[int]:
        results: list[int] = self.pool.map(tasks.same, items, chunk_size=chunk)
        return results

    def flood(self, count: int) -> None:
        if not self._opening.fresh:
            return super().flood(count)
        # Only its maps renew workers.
        self.pool.map(tasks.same, range(count), chunk_size=1, worker_lifespan=1)
        return None

    def submit_limited(self, limit: float, function: Any, *arguments: Any) -> Any:
        return self.pool.apply_async(function, arguments, task_timeout=limit)

    def revive(self) -> None:
        self.pool.terminate()
        self.pool = self._new()

    def close(self) -> None:
        self.pool.terminate()


class Mpire(Subject):
    name: ClassVar[str] = "mpire"
    title: ClassVar[str] = "mpire.WorkerPool"
    package: ClassVar[str | None] = "mpire"
    abilities: ClassVar[frozenset[Ability]] = COMMON | DEATHS | {Ability.LIMIT, Ability.FRESH}

    def open(self, opening: Opening) -> Session:
        return MpireSession(opening)


class DeadpoolSession(ExecutorSession):
    def submit_limited(self, limit: float, function: Any, *arguments: Any) -> Any:
        return self.executor.submit(function, *arguments, deadpool_timeout=limit)


class Deadpool(Subject):
    name: ClassVar[str] = "deadpool"
    title: ClassVar[str] = "deadpool"
    package: ClassVar[str | None] = "deadpool"
    abilities: ClassVar[frozenset[Ability]] = COMMON | DEATHS | {Ability.LIMIT, Ability.FRESH}

    def open(self, opening: Opening) -> Session:
        import deadpool

        return DeadpoolSession(
            deadpool.Deadpool(
                opening.workers,
                max_tasks_per_child=1 if opening.fresh else None,
                mp_context=opening.start_method,
                max_backlog=0,  # As the others: a submit waits for nothing.
            )
        )
