"""All that can be done to a pool, or be said to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tests.exploration.case import FURTHEST_REACH, Case
from tests.exploration.promises import NOBODY, Expected, Promises
from warmpool import events as ev
from warmpool.ending import OPEN
from warmpool.events import FailureKind
from warmpool.lifecycle import KILLING, LEAVING, WARM, InvalidTransition
from warmpool.trays import PATIENCE

WAITER = 1
A_STACK = "a stack"
SLOW = 2 * PATIENCE
"""Seconds that no task takes that is quick."""
A_WHILE = 0.5


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
        self.let_nobody_have_anything()
        self.deaf = set()
        self.silent = set()
        self.beats = {}
        self.measured = set()
        self.expected = {}
        self.told = ev.Health.WARMING
        self.cold = set()
        self.pardoned = set()
        self.outdated = set()
        self.claimed = set()
        self.heartbeats_wanted = self.may_drop = False

    def open(self) -> None:
        """Start the first workers."""
        commands = self.core.open(self.now)
        if self.hear is not None:
            self.hear(ev.TimePassed(), commands)
        self.obey(commands)
        for worker in sorted(self.unborn) if self.case.is_warm else ():
            self.spawn(worker)
            self.greet(worker)
            self.ready(worker)

    # ------------------------------------------------------------------ what is said

    def say(self, event: ev.Event) -> list[ev.Command]:
        """Tell the core, and obey it."""
        commands = self.core.handle(event, self.now)
        if self.hear is not None:
            self.hear(event, commands)
        self.obey(commands)
        if self.core.settings.lays_out:
            for worker in self.core.roster.workers.values():
                worker.reach = min(worker.reach, FURTHEST_REACH)
        while self.follow_ups:
            self.say(self.follow_ups.pop(0))
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

    def burst(self) -> None:
        """All tasks are submitted that are not there, one after the other."""
        alike = self.case.alike
        for task in sorted(self.specs.keys() - self.expected, key=lambda id: (alike[id], id)):
            self.submit(task)

    def lease(self, worker: int, task: int) -> None:
        others = set(self.core.on_loan(9)) - {worker}
        self.expected[task] = Expected(runs=1, sent=True)
        self.running[worker] = task
        self.say(ev.TaskTaken(self.specs[task], worker, self.now))
        assert others <= set(self.core.on_loan(9)), "a lease ends though nobody revoked it"

    def pass_by(self, worker: int) -> None:
        """A task goes past the core to a worker, and is answered."""
        passed = ev.PassedTask(ev.TaskSpec(NOBODY), self.now, self.now, ev.Outcome.RETURNED)
        commands = self.say(ev.TasksPassed(worker, (passed,)))
        assert not commands, "what has passed has an effect, and a lease may yet have been taken"

    def cancel(self, task: int) -> None:
        """The caller cancels; the pool hears of it later."""
        self.expected[task].cancelled = True

    def cancelled(self, task: int) -> None:
        self.say(ev.TaskCancelled(task))

    def withdraw(self, task: int) -> None:
        """The caller cancels what lies in a tray, or did when they looked."""
        expected = self.expected[task]
        runs = expected.runs
        self.may_drop = True
        self.say(ev.TaskWithdrawn(task))
        self.may_drop = False
        if expected.runs == runs == 0 and not expected.sent:
            assert task not in self.expected, "what nobody has begun with cannot be cancelled"

    def kill_task(self, task: int, grace: float | None) -> None:
        self.expected[task].kill = 2 if grace is None else 1
        before = set(self.killed)
        self.say(ev.TaskKillRequested(task, grace))
        for worker in self.killed - before:
            assert not self.behind.get(worker), "another task dies of it"

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

    def reload(self) -> None:
        if self.core.phase is OPEN:
            self.outdated = self.alive | self.unborn
        self.say(ev.ReloadRequested())

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
        task, one = self.answered(worker), self.core.roster.workers[worker]
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
            left = self.empty(worker)
            last = self._last_started(worker, True)
            self.say(ev.WorkerBrokeProtocol(worker, "wrote garbage", last, left))
        else:
            self.say({"greet": ev.WorkerGreeted, "ready": ev.WorkerReady}[what](worker))

    def garbage_before_start(self, worker: int) -> None:
        """It writes garbage, and its flight recorder says that its task has not started."""
        self.deaf.add(worker)
        left = self.empty(worker)  # First: it goes on until it is killed.
        before = self._last_started(worker, False)
        self.say(ev.WorkerBrokeProtocol(worker, "wrote garbage", before, left))

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
            ev.TaskWithdrawn(NOBODY),
            ev.TakenBack(worker, (NOBODY,)),
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
        leaves = worker in self.killed or worker in self.deaf
        if self.trays.get(worker) and worker not in self.running and not leaves and self.choose(2):
            self.take_first(worker)
        task = self._last_started(worker, started, is_over=True)
        left = tuple(self.trays.pop(worker, ()))
        for one in left:
            self.taken_back(one)
        self._gone(worker)
        self.say(ev.WorkerExited(worker, 1, task, left=left))

    def reap(self, worker: int) -> None:
        """A kill does its work."""
        if worker in self.unborn:
            self.start_failed(worker)
        else:
            self.exit(worker, True)

    def _last_started(self, worker: int, started: bool, *, is_over: bool = False) -> int:
        """What its flight recorder says."""
        one, taken = self.core.roster.workers[worker], self.taken(worker)
        if self.core.settings.lays_out and not taken:
            return one.noted  # It has not come to anything else.
        began = started or len(taken) > 1
        for task in taken:
            # Of others the last word has been said, or is yet to be said.
            if task == one.task or (is_over and task in one.tray):
                self.expected[task].evidence = began
        # Another task than before it got this one, or that one: that is all that counts.
        return NOBODY if began else one.noted

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
        self.outdated.discard(worker)
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

    def dawdle(self) -> None:
        """So much time passes that no task under way is quick any more, and nothing else."""
        self._go_to(self.now + A_WHILE)

    def is_to_be_heard(self, worker: int) -> bool:
        """Whether an answer of it is there to be read: it has gone on with another task."""
        is_heard = worker not in self.deaf and self.core.roster.workers[worker].state is not KILLING
        return is_heard and bool(self.behind.get(worker))

    def _go_to(self, at: float) -> None:
        if at > self.now:
            self.now = at
            self.cold.clear()

    def tell_time(self) -> None:
        self.say(ev.TimePassed())
        left = self.core.next_deadline()
        assert left is None or left > self.now, "a deadline has passed and is still to come"
