"""All that can be done to a pool, or be said to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tests.exploration.case import Case
from tests.exploration.promises import NOBODY, Expected, Promises
from warmpool import events as ev
from warmpool.events import FailureKind
from warmpool.lifecycle import LEAVING, WARM, InvalidTransition

WAITER = 1
A_STACK = "a stack"


class World(Promises):
    """A pool, its workers and its callers.

    Args:
        case: What there is.
    """

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.now: float
        self.deaf: set[int]
        """Workers of whom nothing is read any more."""
        self.silent: set[int]
        self.beats: dict[int, int]
        self.pardoned: set[int]
        """Workers that had failed, and were still there, when a broken pool healed."""
        self.hear: Callable[[ev.Event, list[ev.Command]], None] | None = None
        """Is told everything that is said to the core, and its answer."""
        self.clear()

    def clear(self) -> None:
        """Make it a world without anybody, at the beginning of time."""
        self.now = 0.0
        self.waiting = False
        self.unborn = set()
        self.alive = set()
        self.killed = set()
        self.stopped = set()
        self.asked = set()
        self.running = {}
        self.deaf = set()
        self.silent = set()
        self.beats = {}
        self.measured = set()
        self.expected = {}
        self.told = ev.Health.WARMING
        self.cold = set()
        self.pardoned = set()
        self.at_dispatch = []
        self.heartbeats_wanted = self.may_drop = False

    def open(self) -> None:
        """Start the first workers."""
        self.obey(self.core.open(self.now))

    # ------------------------------------------------------------------ what is said

    def say(self, event: ev.Event) -> list[ev.Command]:
        """Tell the core, and obey it."""
        commands = self.core.handle(event, self.now)
        if self.hear is not None:
            self.hear(event, commands)
        self.obey(commands)
        while self.at_dispatch:
            self.say(ev.TaskCancelled(self.at_dispatch.pop(0)))
        if self.heartbeats_wanted:
            self.heartbeats_wanted = False
            self.say(ev.HeartbeatsRead({w.id: self._beat(w.id) for w in self._warm()}))
        return commands

    def obey(self, commands: list[ev.Command]) -> None:
        for command in commands:
            getattr(self, self.ORDERS[type(command)])(command)

    def _warm(self) -> Iterable[Any]:
        return self.core.roster.in_states(WARM)

    def _beat(self, worker: int) -> int:
        self.beats[worker] = self.beats.get(worker, 0) + (worker not in self.silent)
        return self.beats[worker]

    # ------------------------------------------------------------------ callers' moves

    def submit(self, task: int) -> None:
        self.expected[task] = Expected()
        self.say(ev.TaskSubmitted(self.specs[task]))

    def take(self, worker: int, task: int) -> None:
        others = set(self.core.on_loan(9)) - {worker}
        self.expected[task] = Expected(runs=1)
        self.running[worker] = task
        self.say(ev.TaskTaken(self.specs[task], worker, self.now))
        assert others <= set(self.core.on_loan(9)), "a lease ends though nobody revoked it"

    def cancel(self, task: int) -> None:
        """The caller cancels; the pool hears of it later."""
        self.expected[task].cancelled = True

    def cancelled(self, task: int) -> None:
        self.say(ev.TaskCancelled(task))

    def kill_task(self, task: int, grace: float | None) -> None:
        self.expected[task].kill = 2 if grace is None else 1
        self.say(ev.TaskKillRequested(task, grace))

    def await_warmth(self) -> None:
        self.waiting = True
        self.say(ev.WarmAwaited(WAITER))

    def abandon_warmth(self) -> None:
        self.waiting = False
        self.say(ev.WarmAbandoned(WAITER))

    def shut_down(self, cancel_queued: bool) -> None:
        self.may_drop = cancel_queued
        self.say(ev.ShutdownRequested(cancel_queued))
        self.may_drop = False

    def close(self, timeout: float | None) -> None:
        ending = self.core.ending
        promised = ending.at
        # To interrupt changes nothing but what tasks are told.
        self.say(ev.CloseRequested(timeout, interrupts=timeout is None))
        if promised is not None and ending.at is not None:
            assert ending.at <= promised, "the end is put off"

    # ------------------------------------------------------------------ workers' moves

    def spawn(self, worker: int) -> None:
        self.unborn.remove(worker)
        self.alive.add(worker)
        self.say(ev.WorkerSpawned(worker, 1000 + worker))

    def start_failed(self, worker: int) -> None:
        self._gone(worker)
        failure = ev.Failure(FailureKind.START_FAILED, worker, stage="starting")
        self.say(ev.WorkerStartFailed(worker, failure))

    def greet(self, worker: int) -> None:
        self.say(ev.WorkerGreeted(worker))

    def ready(self, worker: int) -> None:
        if self.core.roster.broken_at is not None:
            # All is forgiven.
            self.cold.clear()
            leaving = {one.id for one in self.core.roster.in_states(LEAVING)}
            self.pardoned |= self.core.roster.unready & leaving
        self.say(ev.WorkerReady(worker))

    def initializer_raised(self, worker: int) -> None:
        self.say(ev.InitializerRaised(worker))

    def done(self, worker: int) -> None:
        task, one = self.running.pop(worker), self.core.roster.workers[worker]
        self.say(ev.TaskDone(worker, task, ev.Outcome.RETURNED))
        assert one.noted == task, "the flight recorder will seem to say that the next one started"

    def lie(self, worker: int, what: str) -> None:
        """It says what it cannot say now."""
        if what == "done":
            mine = self.core.roster.workers[worker].task
            others = (task for task in self.core.book.tasks if task != mine)
            self.say(ev.TaskDone(worker, next(others, NOBODY), ev.Outcome.RETURNED))
        elif what == "garbage":
            self.deaf.add(worker)
            self.say(ev.WorkerBrokeProtocol(worker, "wrote garbage", NOBODY))
        else:
            self.say({"greet": ev.WorkerGreeted, "ready": ev.WorkerReady}[what](worker))

    def garbage_before_start(self, worker: int) -> None:
        """It writes garbage, and its flight recorder says that its task has not started."""
        self.deaf.add(worker)
        before = self._last_started(worker, False)
        self.say(ev.WorkerBrokeProtocol(worker, "wrote garbage", before))

    def late(self, worker: int) -> None:
        """All that a worker may have said before the kill, none of which counts."""
        task = self.running.get(worker, NOBODY)
        for event in (
            ev.WorkerGreeted(worker),
            ev.WorkerReady(worker),
            ev.InitializerRaised(worker),
            ev.TaskDone(worker, task, ev.Outcome.RETURNED),
            ev.WorkerBrokeProtocol(worker, "wrote garbage", task),
            ev.WorkerChannelClosed(worker),
        ):
            assert not self.say(event), "what a worker said too late has an effect"

    def ghost(self) -> None:
        """All that one who has been buried might say is refused."""
        worker = 1000
        for event in (
            ev.WorkerSpawned(worker, 1),
            ev.WorkerGreeted(worker),
            ev.WorkerReady(worker),
            ev.InitializerRaised(worker),
            ev.TaskDone(worker, 1, ev.Outcome.RETURNED),
            ev.WorkerBrokeProtocol(worker, "wrote garbage"),
            ev.WorkerChannelClosed(worker),
            ev.StackTaken(worker, None),
            ev.WorkerExited(worker, 0),
        ):
            try:
                self.core.handle(event, self.now)
            except InvalidTransition:
                continue
            raise AssertionError("a buried worker is heard")
        for event in (
            ev.MemoryRead(worker, 10**9),
            ev.TaskCancelled(NOBODY),
            ev.TaskKillRequested(NOBODY),
        ):
            assert not self.say(event), "a word about what is gone has an effect"

    def close_channel(self, worker: int) -> None:
        self.deaf.add(worker)
        self.say(ev.WorkerChannelClosed(worker))

    def fall_silent(self, worker: int) -> None:
        self.silent.add(worker)

    def measure(self, worker: int, used: int) -> None:
        self.measured.remove(worker)
        self.say(ev.MemoryRead(worker, used))

    def give_stack(self, worker: int, started: bool) -> None:
        self.asked.remove(worker)
        task = self._last_started(worker, started)
        self.say(ev.StackTaken(worker, A_STACK, task))

    def exit(self, worker: int, started: bool) -> None:
        task = self._last_started(worker, started)
        self._gone(worker)
        self.say(ev.WorkerExited(worker, 1, task))

    def reap(self, worker: int) -> None:
        """A kill does its work."""
        if worker in self.unborn:
            self.start_failed(worker)
        else:
            self.exit(worker, True)

    def _last_started(self, worker: int, started: bool) -> int:
        """What its flight recorder says."""
        if started:
            return NOBODY  # Another task than before it got this one, which is all that counts.
        self._has_evidence(worker)
        return self.core.roster.workers[worker].noted

    def _has_evidence(self, worker: int) -> None:
        if worker not in self.killed and (task := self.running.get(worker)) in self.expected:
            self.expected[task].evidence = False

    def _gone(self, worker: int) -> None:
        one = self.core.roster.workers[worker]
        if one.ready_at is None and worker not in self.pardoned:
            self.cold.add(one.slot)
        self.forget(worker)

    def forget(self, worker: int) -> None:
        super().forget(worker)
        self.deaf.discard(worker)
        self.silent.discard(worker)
        self.measured.discard(worker)
        self.pardoned.discard(worker)
        self.beats.pop(worker, None)

    # ------------------------------------------------------------------ time

    def deadlines(self) -> list[float]:
        """The different times at which something is due, the next first."""
        heap, holds = self.core._deadlines._heap, self.core._holds
        return sorted({entry[0] for entry in heap if holds(*entry)})

    def let_pass(self, number: int) -> None:
        """Time passes until so many deadlines have passed, and then the core is told."""
        self._go_to(self.deadlines()[number - 1])
        self.tell_time()

    def sleep(self) -> None:
        """One more deadline passes and the core is not told: its thread is late."""
        self._go_to(min(at for at in self.deadlines() if at > self.now))

    def _go_to(self, at: float) -> None:
        if at > self.now:
            self.now = at
            self.cold.clear()

    def tell_time(self) -> None:
        self.say(ev.TimePassed())
        left = self.core.next_deadline()
        assert left is None or left > self.now, "a deadline has passed and is still to come"
