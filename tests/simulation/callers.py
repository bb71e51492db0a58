"""What callers do with a pool: everything that its interface has, at times of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent import futures
from typing import Any

from tests.simulation.jobs import big_job, job
from tests.simulation.judge import Record
from tests.simulation.world import World
from warmpool import WarmPool, errors

LONGEST_BALLAST = 1 << 19


class Callers:
    """The callers of one pool.

    Args:
        world: Where.
        pool: Whose.
        pause: Seconds between two things that a caller does, in the mean.
        job_seconds: Seconds that a task takes, in the mean.
        limit: A time limit of tasks that have one, in seconds.
    """

    def __init__(
        self, world: World, pool: WarmPool, pause: float, job_seconds: float, limit: float
    ) -> None:
        self._world = world
        self._machine = world.machine
        self._rng = world.machine.rng
        self._pool = pool
        self._pause = pause
        self._job_seconds = job_seconds
        self._limit = limit
        self.goes_on = True
        self.habits: list[Callable[[], None]] = [
            self._ping_pong,
            self._ping_pong,
            self._burst,
            self._flood,
            self._map,
            self._look,
            self._wait_warm,
        ]
        if world.method == "template":
            self.habits.append(self._reload)

    def live(self) -> None:
        """One caller's life."""
        while self.goes_on:
            self._machine.sleep(self._rng.expovariate(1.0 / self._pause))
            if not self.goes_on:
                return
            habit = self._rng.choice(self.habits)
            with contextlib.suppress(errors.PoolClosed, errors.PoolBroken, errors.PoolSaturated):
                habit()

    # ------------------------------------------------------------------ tasks

    def submit(self, *, most_options: bool = True, seconds: float | None = None) -> Record:
        """Submit a task."""
        rng = self._rng
        options: dict[str, Any] = {}
        if most_options:
            if rng.random() < 0.4:
                options["timeout"] = self._limit * rng.uniform(0.2, 2.0)
            if rng.random() < 0.1:
                options["soft_timeout"] = self._limit * rng.uniform(0.05, 0.19)
            if rng.random() < 0.2:
                options["queue_timeout"] = self._limit * rng.uniform(0.05, 2.0)
            if rng.random() < 0.2:
                options["retries"] = rng.randint(1, 2)
        size = rng.choice((0, 0, 0, 10, 1000)) if rng.random() < 0.97 else 300_000
        raises = rng.random() < 0.05
        if seconds is None:
            seconds = rng.expovariate(1.0 / self._job_seconds)
        judge = self._world.judge
        record = judge.enter(size, raises, options)
        view = self._pool.options(**options) if options else self._pool
        try:
            if rng.random() < 0.03:
                ballast = bytes(rng.randint(1, LONGEST_BALLAST))
                record.future = view.submit(big_job, record.number, seconds, size, ballast)
                record.raises = False
            else:
                record.future = view.submit(job, record.number, seconds, size, raises)
        except BaseException:
            del judge.records[record.number]
            raise
        if rng.random() < 0.1:
            record.counts_answers = True
            record.future.add_done_callback(lambda _: self._count(record))
        return record

    def _count(self, record: Record) -> None:
        record.answers += 1

    def _settled(self, record: Record) -> None:
        """The task is done: judge it, once everybody has been told."""
        if record.counts_answers and not record.answers:
            return  # Later: a callback comes in its own time.
        self._world.judge.judge(record)

    def _ping_pong(self) -> None:
        """One task after the other, each waited for in ``result()``."""
        for _ in range(self._rng.randint(1, 12)):
            if not self.goes_on:
                return
            record = self.submit(most_options=self._rng.random() < 0.2)
            self._wait_for(record)

    def _wait_for(self, record: Record) -> None:
        future, rng = record.future, self._rng
        assert future is not None
        how = rng.random()
        with contextlib.suppress(Exception, futures.CancelledError):
            if how < 0.7:
                future.result(2 * self._limit)
            elif how < 0.8:
                future.exception(rng.uniform(0.0, self._limit))
            elif how < 0.9:
                futures.wait([future], rng.uniform(0.0, self._limit))
            else:
                for _ in range(5):
                    if future.done():
                        break
                    self._machine.sleep(rng.uniform(0.0, self._job_seconds))
        self._give_up(record)

    def _give_up(self, record: Record) -> None:
        """A task that goes on for too long is cancelled, or killed."""
        assert record.future is not None
        if not record.future.done():
            self._end(record)
        if record.future.done():
            self._settled(record)

    def _end(self, record: Record) -> None:
        future, rng = record.future, self._rng
        assert future is not None
        if rng.random() < 0.3:
            record.cancelled = True
            if future.cancel():
                return
        if rng.random() < 0.5:
            record.killed = True
            future.kill()
        else:
            record.killed_softly = True
            future.kill(rng.uniform(0.0, 2.0))

    def _burst(self) -> None:
        """Many at once, of which some are cancelled or killed at any time."""
        rng, records = self._rng, []
        try:
            for _ in range(rng.randint(2, 12)):
                records.append(self.submit())
            for record in records:
                if rng.random() < 0.15:
                    self._machine.sleep(rng.expovariate(1.0 / self._job_seconds))
                    self._end(record)
            waiting = [record.future for record in records if record.future is not None]
            if rng.random() < 0.3:
                futures.wait(waiting, self._limit, rng.choice(_WHENS))
            elif rng.random() < 0.3:
                with contextlib.suppress(TimeoutError):
                    for _ in futures.as_completed(waiting, self._limit):
                        pass
        finally:
            for record in records:
                self._wait_for(record)

    def _flood(self) -> None:
        """So many small tasks that they are laid out for busy workers."""
        rng, records = self._rng, []
        try:
            for _ in range(rng.randint(10, 80)):
                records.append(self.submit(most_options=False, seconds=rng.uniform(0.0, 0.004)))
            for record in records:
                if rng.random() < 0.1:
                    self._machine.sleep(rng.uniform(0.0, 0.002))
                    self._end(record)
        finally:
            for record in records:
                self._wait_for(record)

    def _map(self) -> None:
        rng, judge = self._rng, self._world.judge
        count = rng.randint(1, 10)
        records = [judge.enter(0, False, {}, is_alone=False) for _ in range(count)]
        seconds = [rng.expovariate(1.0 / self._job_seconds) for _ in records]
        numbers = [record.number for record in records]
        # With a limit: nobody would kill one that hangs.
        try:
            results = self._pool.options(timeout=self._limit).map(
                job,
                numbers,
                seconds,
                timeout=rng.choice((None, 2 * self._limit)),
                chunksize=rng.randint(1, 4),
            )
            for number, result in zip(numbers, results, strict=True):
                assert result == (number, b""), "map() gives another's result"
        except (errors.WarmpoolError, TimeoutError, futures.CancelledError):
            pass

    # ------------------------------------------------------------------ others

    def _look(self) -> None:
        stats = self._pool.stats()
        workers = sum(stats.workers.values())
        assert workers <= self._pool.max_workers, "stats() counts more workers than slots"
        repr(self._pool)

    def _wait_warm(self) -> None:
        with contextlib.suppress(errors.WarmpoolError, TimeoutError):
            self._pool.wait_warm(self._rng.uniform(0.0, 60.0))

    def _reload(self) -> None:
        self._pool.reload()


_WHENS = (futures.FIRST_COMPLETED, futures.FIRST_EXCEPTION, futures.ALL_COMPLETED)
