"""Many faults at once, in an order that nobody chose: what no single test thinks of."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers import faults, leaks, payloads, policies, processes, tasks
from tests.helpers.faults import End
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import Health, PayloadError, TaskFuture, WarmPool, WorkerError

LIMIT = 0.4
"""Seconds that each task has."""

Deed = Callable[["Chaos"], object]


class Chaos:
    """Does things to a pool at random.

    Args:
        pool: Its victim.
        seed: Decides what, so that a failure can be had again, more or less.
    """

    def __init__(self, pool: WarmPool, seed: int) -> None:
        self.pool = pool.options(timeout=LIMIT)
        self.random = random.Random(seed)
        self.futures: list[TaskFuture[Any]] = []

    def submit(self, function: Callable[..., Any], *args: Any, retries: int = 0) -> None:
        self.futures.append(self.pool.options(retries=retries).submit(function, *args))

    def commit(self, *ends: End) -> None:
        name = self.random.choice(faults.names(*ends))
        where = self.random.choice([faults.perform, payloads.return_fault_on_pickling])
        self.submit(where, name, retries=self.random.choice([0, 0, 1]))

    def on_unpickling(self) -> None:
        name = self.random.choice(faults.names(End.DIES, End.RAISES))
        self.submit(tasks.echo, payloads.fault_on_unpickling(name))

    def to_some_future(self, method: str) -> None:
        if self.futures:
            getattr(self.random.choice(self.futures), method)()

    def to_some_worker(self, number: int) -> None:
        used = {future.info.pid for future in self.futures[-20:]}
        if alive := sorted(used.intersection(leaks.descendants())):
            processes.kill(self.random.choice(alive), number)

    DEEDS: dict[Deed, int] = {  # noqa: RUF012
        lambda self: self.submit(tasks.echo, len(self.futures)): 40,
        lambda self: self.submit(tasks.large, 3_000_000): 5,
        lambda self: self.submit(len, bytes(3_000_000)): 5,
        lambda self: self.commit(End.RAISES): 5,
        lambda self: self.commit(End.DIES): 10,
        lambda self: self.commit(End.BREAKS): 5,
        lambda self: self.commit(End.HANGS): 2,
        on_unpickling: 5,
        lambda self: self.to_some_future("cancel"): 10,
        lambda self: self.to_some_future("kill"): 10,
        lambda self: self.to_some_worker(signal.SIGKILL): 5,
        lambda self: self.to_some_worker(signal.SIGSTOP): 1,
    }

    def rage(self, deeds: int) -> None:
        for deed in self.random.choices(list(self.DEEDS), list(self.DEEDS.values()), k=deeds):
            deed(self)
            if self.random.random() < 0.1:
                outcome_of_any(self.random.choice([*self.futures, None]))


def outcome_of_any(future: TaskFuture[Any] | None) -> BaseException | None:
    """Wait for a future; what it failed with, None if it was cancelled too."""
    if future is None:
        return None
    until(future.done, f"settled: {future!r}")
    return None if future.cancelled() else outcome(future)


@pytest.mark.parametrize(
    ("start_method", "seed", "reuse"),
    [
        *[("fork", 1, None), ("fork", 2, 5), ("fork", 3, 1)],
        *[("forkserver", 4, None), ("forkserver", 5, 5), ("spawn", 6, None)],
    ],
    indirect=["start_method"],
)
def test_whatever_befalls_a_pool_every_future_settles_and_every_slot_is_refilled(
    make_pool: Callable[..., WarmPool], start_method: str, seed: int, reuse: int | None
) -> None:
    with policies.use(policies.PATIENT):
        pool = make_pool(3, grace=0.3, max_tasks_per_child=reuse)
    chaos = Chaos(pool, seed)
    chaos.rage(150)
    for future in chaos.futures:
        error = outcome_of_any(future)
        assert isinstance(error, WorkerError | PayloadError | faults.Oops | SystemExit | None)
    # A worker that was stopped while it was idle is found out by its next task.
    for _ in range(6):
        outcome_of_any(chaos.pool.submit(tasks.own_pid))
    pool.wait_warm(BOUND)
    assert pool.health is Health.READY
    assert [pool.submit(tasks.echo, number).result(BOUND) for number in range(6)] == list(range(6))
    until(lambda: pool.stats().workers == {"idle": 3}, "all workers are idle")
    stats = pool.stats()
    assert (stats.queued, stats.running) == (0, 0)
    assert sum(stats.tasks_settled.values()) == stats.tasks_submitted


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_befalls_a_pool_close_answers_every_waiter(
    make_pool: Callable[..., WarmPool], start_method: str, seed: int
) -> None:
    with policies.use(policies.PATIENT):
        pool = make_pool(3, grace=0.3)
    chaos = Chaos(pool, seed)
    chaos.rage(80)
    pool.close()
    assert pool.stats().workers == {}
    assert all(future.done() for future in chaos.futures)
