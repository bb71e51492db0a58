"""What happens to one worker costs the core the same, however many others there are."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import warmpool
from warmpool import events as ev
from warmpool.core import Core
from warmpool.state import Settings

PACKAGE = str(Path(warmpool.__file__).parent)


def steps(call: Callable[[], object]) -> int:
    """How many instructions of warmpool's own code a call runs."""
    count = 0

    def trace(frame, event, _argument):
        nonlocal count
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


class Pool:
    """A core whose workers do at once what they are asked."""

    def __init__(self, **settings) -> None:
        self.core = Core(Settings(heartbeat_timeout=None, **settings), random.Random(0).random)
        self.now = 0.0
        self.tasks = 0
        self.starting: list[int] = []
        self.stopping: list[int] = []
        self.running: dict[int, int] = {}
        self._obey(self.core.open(0.0))

    def say(self, event: ev.Event) -> None:
        self._obey(self.core.handle(event, self.now))

    def _obey(self, commands: list[ev.Command]) -> None:
        for command in commands:
            if isinstance(command, ev.StartWorker):
                self.starting.append(command.worker)
            elif isinstance(command, ev.StopWorker | ev.KillWorker):
                self.stopping.append(command.worker)
            elif isinstance(command, ev.DispatchTask):
                self.running[command.worker] = command.task

    def warm(self) -> None:
        """Whoever is starting gets ready."""
        while self.starting:
            worker = self.starting.pop(0)
            self.say(ev.WorkerSpawned(worker, worker))
            self.say(ev.WorkerGreeted(worker))
            self.say(ev.WorkerReady(worker))

    def submit(self) -> int:
        self.tasks += 1
        self.say(ev.TaskSubmitted(ev.TaskSpec(self.tasks)))
        return self.tasks

    def answer(self, worker: int) -> None:
        """The worker has done what it has by now, be it from its tray."""
        task = self.core.roster.workers[worker].task
        self.running.pop(worker, None)
        self.say(ev.TaskDone(worker, task, ev.Outcome.RETURNED))

    def finish(self) -> None:
        worker, task = self.running.popitem()
        self.say(ev.TaskDone(worker, task, ev.Outcome.RETURNED))

    def die(self, worker: int, task: int = 0) -> None:
        self.running.pop(worker, None)
        self.say(ev.WorkerExited(worker, -9, task))

    def wait(self) -> None:
        """Until the next deadline."""
        at = self.core.next_deadline()
        assert at is not None
        self.now = at
        self.say(ev.TimePassed())

    @property
    def idle(self) -> int:
        return next(iter(self.core.roster.idle))


def a_life(pool: Pool) -> Iterator[None]:
    """Tasks, deaths of workers with one and without, a failed start, the wait for the next."""
    yield
    pool.submit()
    pool.warm()
    yield
    pool.finish()
    yield
    task = pool.submit()
    (worker,) = pool.running
    pool.die(worker, task)
    pool.warm()
    yield
    while not pool.core.roster.scheduled:
        pool.die(pool.idle)
    yield
    while not pool.starting:
        pool.wait()
    yield
    failed = pool.starting.pop()
    pool.say(ev.WorkerSpawned(failed, failed))
    pool.die(failed)
    yield
    while not pool.starting:
        pool.wait()
    pool.warm()


def all_are_due(pool: Pool) -> Iterator[None]:
    """They leave one after the other, each after the one before it is replaced."""
    pool.say(ev.ReloadRequested())
    for _ in range(4):
        yield
        pool.die(pool.stopping.pop(0))
        pool.warm()
        yield
        pool.submit()
        pool.finish()


def draining(pool: Pool) -> Iterator[None]:
    """Nobody may submit any more; the tasks that run end, and their workers."""
    tasks = [pool.submit() for _ in range(len(pool.core.roster.slots))]
    assert len(pool.running) == len(tasks)
    pool.say(ev.ShutdownRequested(cancel_queued=False))
    for _ in range(4):
        yield
        pool.finish()
        pool.die(pool.stopping.pop(0))


def sharing(pool: Pool) -> Iterator[None]:
    """Everybody has something in the tray, and one after the other has nothing to do."""
    roster = pool.core.roster
    for _ in range(5 * len(roster.slots)):
        pool.submit()
    for worker in list(roster.workers):
        pool.answer(worker)
    for task in list(pool.core.book.queue):
        pool.say(ev.TaskCancelled(task))
    assert len(roster.laid) == len(roster.slots)
    for worker in list(roster.workers)[:4]:
        yield
        recalled = len(roster.recalled)
        while roster.workers[worker].task is not None:
            pool.answer(worker)
        assert len(roster.recalled) > recalled


def cost(story: Callable[[Pool], Iterator[None]], pool: Pool) -> list[int]:
    """The steps of each part of a story but its first, in which all workers may be met."""
    told = story(pool)
    next(told)
    done = object()
    costs = []
    while True:
        ended: list[object] = []
        costs.append(steps(lambda ended=ended: ended.append(next(told, done))))
        if ended == [done]:
            return costs


@pytest.mark.parametrize(
    ("story", "share"),
    [(a_life, 1), (a_life, 2), (all_are_due, 1), (draining, 1), (sharing, 1)],
)
def test_what_happens_to_one_worker_costs_as_much_in_a_large_pool(story, share):
    def a_pool(size: int) -> Pool:
        # A share of slots is vacant, and filled as there is need.
        pool = Pool(
            max_workers=size,
            min_idle=None if share == 1 else size // share,
            lays_out=story is sharing,
        )
        pool.warm()
        return pool

    small, large = cost(story, a_pool(20)), cost(story, a_pool(400))
    assert len(small) == len(large) > 3
    assert all(small)
    assert small == large
