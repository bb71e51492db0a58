"""Any sequence of events leaves the core valid, and time alone answers every task."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tests.property.world import World
from warmpool import events as ev
from warmpool.lifecycle import State
from warmpool.state import Settings

LIMITS = st.one_of(st.none(), st.sampled_from([0.5, 3.0]))


class CoreMachine(RuleBasedStateMachine):
    """Faulty, lying and late workers, impatient callers, and the clock."""

    world: World

    @initialize(
        max_workers=st.integers(1, 3),
        max_tasks=st.one_of(st.none(), st.integers(1, 2)),
        max_queue=st.one_of(st.none(), st.integers(0, 3)),
        heartbeat_timeout=st.sampled_from([None, 6.0]),
        min_idle=st.sampled_from([None, 0, 1, 2]),
        idle_timeout=st.sampled_from([None, 1.0]),
        lifetime=st.sampled_from([None, 4.0]),
        memory_limit=st.sampled_from([None, 100]),
        lays_out=st.booleans(),
        seed=st.integers(0, 3),
    )
    def open(
        self,
        max_workers,
        max_tasks,
        max_queue,
        heartbeat_timeout,
        min_idle,
        idle_timeout,
        lifetime,
        memory_limit,
        lays_out,
        seed,
    ):
        if lays_out:
            max_tasks = max_queue = min_idle = None
        self.world = World(
            Settings(
                max_workers,
                init_timeout=5.0,
                grace=2.0,
                max_tasks_per_child=max_tasks,
                max_queue=max_queue,
                heartbeat_interval=1.0,
                heartbeat_timeout=heartbeat_timeout,
                min_idle=None if min_idle is None else min(min_idle, max_workers),
                idle_timeout=idle_timeout,
                worker_lifetime=lifetime,
                memory_limit=memory_limit,
                memory_warning=50,
                lays_out=lays_out,
            ),
            seed,
        )

    def _pick(self, data, workers):
        return data.draw(st.sampled_from(sorted(workers)))

    # callers

    @rule(timeout=LIMITS, queue_timeout=LIMITS, retries=st.integers(0, 1), soft_timeout=LIMITS)
    def submit(self, timeout, queue_timeout, retries, soft_timeout):
        if not self.world.ended:
            self.world.submit(timeout, queue_timeout, retries, soft_timeout)

    @rule(count=st.integers(2, 12), timeout=LIMITS)
    def submit_many(self, count, timeout):
        for _ in range(count):
            if not self.world.ended:
                self.world.submit(timeout)

    @precondition(lambda self: self.world.core.on_loan(9))
    @rule(data=st.data(), timeout=LIMITS)
    def take(self, data, timeout):
        self.world.take(self._pick(data, self.world.core.on_loan(9)), timeout)

    @precondition(lambda self: any(self.world.core.on_loan(9).values()))
    @rule(data=st.data(), outcome=st.sampled_from(ev.Outcome), is_taken=st.booleans())
    def pass_by(self, data, outcome, is_taken):
        on_loan = self.world.core.on_loan(9)
        worker = self._pick(data, [worker for worker, most in on_loan.items() if most])
        self.world.pass_by(worker, data.draw(st.integers(1, min(3, on_loan[worker]))), outcome)
        if is_taken:
            self.world.take(worker, None)

    @precondition(lambda self: self.world.core.book.queue)
    @rule(data=st.data())
    def cancel_queued(self, data):
        self.world.cancel(self._pick(data, self.world.core.book.queue))

    @precondition(lambda self: self.world.core.book.tasks)
    @rule(data=st.data(), grace=LIMITS)
    def kill_task(self, data, grace):
        task = self._pick(data, self.world.core.book.tasks)
        self.world.say(ev.TaskKillRequested(task, grace))

    @precondition(lambda self: self.world.memory_wanted)
    @rule(data=st.data(), used=st.sampled_from([None, 1, 60, 200]))
    def read_memory(self, data, used):
        worker = self._pick(data, self.world.memory_wanted)
        self.world.memory_wanted.remove(worker)
        self.world.say(ev.MemoryRead(worker, used))

    @rule()
    def cancel_or_kill_what_is_answered(self):
        if not self.world.ended:
            for task, given in self.world.answers.items():
                if given:
                    assert self.world.say(ev.TaskCancelled(task)) == []
                    assert self.world.say(ev.TaskKillRequested(task)) == []

    @rule()
    def await_warmth(self):
        if not self.world.ended:
            waiter = len(self.world.warm_answers)
            self.world.warm_answers[waiter] = []
            self.world.say(ev.WarmAwaited(waiter))

    @rule()
    def abandon_warmth(self):
        if not self.world.ended:
            for waiter, given in self.world.warm_answers.items():
                if not given:
                    self.world.say(ev.WarmAbandoned(waiter))
                    self.world.abandoned_waiters.add(waiter)

    # the launcher

    @precondition(lambda self: self.world.unborn)
    @rule(data=st.data())
    def spawn(self, data):
        self.world.spawn(self._pick(data, self.world.unborn))

    @precondition(lambda self: self.world.unborn)
    @rule(data=st.data())
    def fail_to_start(self, data):
        self.world.start_failed(self._pick(data, self.world.unborn))

    # workers in order

    @precondition(lambda self: self.world.unborn)
    @rule(data=st.data())
    def get_warm(self, data):
        worker = self._pick(data, self.world.unborn)
        if worker not in self.world.killed:
            self.world.warm(worker)

    @precondition(lambda self: self.world.running)
    @rule(data=st.data(), outcome=st.sampled_from(ev.Outcome))
    def finish_task(self, data, outcome):
        self.world.done(self._pick(data, self.world.running), outcome)

    @precondition(lambda self: self.world.running)
    @rule(data=st.data(), outcome=st.sampled_from(ev.Outcome))
    def run_ahead(self, data, outcome):
        self.world.run_ahead(self._pick(data, self.world.running), outcome)

    @precondition(lambda self: any(self.world.trays.values()))
    @rule(data=st.data())
    def begin(self, data):
        trays = self.world.trays
        self.world.begin(self._pick(data, [worker for worker in trays if trays[worker]]))

    @precondition(lambda self: self.world.unheard)
    @rule(data=st.data())
    def hear(self, data):
        self.world.hear(self._pick(data, self.world.unheard))

    @precondition(lambda self: self.world.stopped & self.world.alive)
    @rule(data=st.data())
    def stop_as_asked(self, data):
        self.world.exit(self._pick(data, self.world.stopped & self.world.alive), 0)

    # workers out of order: anything may be said in any state

    @precondition(lambda self: self.world.alive)
    @rule(data=st.data())
    def say_anything(self, data):
        worker = self._pick(data, self.world.alive)
        self.world.hear(worker)
        if worker not in self.world.alive:
            return
        task = data.draw(st.integers(0, 4))
        event = data.draw(
            st.sampled_from(
                [
                    ev.WorkerGreeted(worker),
                    ev.WorkerReady(worker),
                    ev.InitializerRaised(worker),
                    ev.TaskDone(worker, task, ev.Outcome.RETURNED),
                    ev.WorkerBrokeProtocol(worker, "wrote garbage", task),
                    ev.WorkerChannelClosed(worker),
                ]
            )
        )
        if isinstance(event, ev.TaskDone):
            if self.world.trays.get(worker, [])[:1] == [task]:
                self.world.begin(worker)  # Who answers has taken it.
            if self.world.running.get(worker) == task:
                self.world.running.pop(worker)
        self.world.say(event)

    @precondition(lambda self: self.world.alive)
    @rule(data=st.data(), code=st.sampled_from([0, 1, -9, None]), started=st.booleans())
    def exit(self, data, code, started):
        worker = self._pick(data, self.world.alive)
        task = self.world.running.get(worker) if started else None
        self.world.exit(worker, code, task)

    @precondition(lambda self: self.world.asked & self.world.alive)
    @rule(data=st.data(), started=st.integers(0, 4))
    def give_stack(self, data, started):
        worker = self._pick(data, self.world.asked & self.world.alive)
        self.world.give_stack(worker, started)

    @precondition(lambda self: self.world.alive)
    @rule(data=st.data())
    def fall_silent(self, data):
        self.world.silent.add(self._pick(data, self.world.alive))

    @precondition(lambda self: self.world.killed)
    @rule()
    def reap(self):
        self.world.reap()

    # time and the end

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.6, 2.0, 5.0, 40.0]))
    def pass_time(self, seconds):
        if not self.world.ended:
            self.world.pass_time(seconds)

    @rule(cancel=st.booleans(), really=st.integers(0, 5))
    def shut_down(self, cancel, really):
        if not self.world.ended and not really:
            self.world.say(ev.ShutdownRequested(cancel))

    @rule(
        timeout=st.sampled_from([None, 0.0, 1.0, 60.0]),
        interrupts=st.booleans(),
        really=st.integers(0, 5),
    )
    def close(self, timeout, interrupts, really):
        if not self.world.ended and not really:
            self.world.say(ev.CloseRequested(timeout, interrupts))

    # always

    @invariant()
    def the_ended_is_empty(self):
        if self.world.ended:
            assert not (self.world.alive | self.world.unborn)
            assert not self.world.unanswered()

    def teardown(self):
        if not hasattr(self, "world"):
            return
        if not self.world.ended:
            self.world.let_time_alone_pass()
        if not self.world.ended:
            self.world.heal()
        self.world.close()


CoreMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)
TestCore = CoreMachine.TestCase


def test_a_worker_is_never_started_in_a_busy_loop():
    """Workers that fail at once, for an hour: the delays grow, and the probes stay rare."""
    world = World(Settings(4, init_timeout=5.0))
    end = world.now + 3600
    while world.now < end:
        for worker in sorted(world.unborn):
            world.start_failed(worker)
        deadline = world.core.next_deadline()
        assert deadline is not None, "it would never probe again"
        world.pass_time(deadline - world.now)
    assert world.core.health is ev.Health.BROKEN
    assert len(world.starts) < 200


def test_a_worker_that_dies_as_soon_as_it_is_warm_is_no_busy_loop_either():
    world = World(Settings(2, init_timeout=5.0))
    end = world.now + 3600
    while world.now < end:
        for worker in sorted(world.unborn):
            world.warm(worker)
            world.exit(worker, 1)
        deadline = world.core.next_deadline()
        assert deadline is not None
        world.pass_time(deadline - world.now)
    assert len(world.starts) < 1000
    assert not world.in_state(State.IDLE)
