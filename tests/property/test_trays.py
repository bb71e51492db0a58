"""What is laid out for busy workers is done once, whatever becomes of them, and soon."""

from __future__ import annotations

from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.property.world import World
from warmpool import events as ev
from warmpool.state import Settings
from warmpool.trays import MOST, PATIENCE


class TrayMachine(RuleBasedStateMachine):
    """Warm workers, many small tasks, and everything that may come in between."""

    world: World

    @initialize(workers=st.integers(1, 3), tasks=st.integers(0, 40), seed=st.integers(0, 3))
    def open(self, workers, tasks, seed):
        self.world = World(
            Settings(workers, init_timeout=5.0, grace=2.0, heartbeat_timeout=6.0, lays_out=True),
            seed,
        )
        self.world.warm_all()
        self.begun = set()
        for _ in range(tasks):
            self.world.submit()

    def _pick(self, data, some):
        return data.draw(st.sampled_from(sorted(some)))

    @property
    def _laid(self):
        return [worker for worker, tasks in self.world.trays.items() if tasks]

    @rule(
        count=st.integers(1, 30),
        timeout=st.sampled_from([None, 1.0]),
        retries=st.integers(0, 1),
        queue_timeout=st.sampled_from([None, None, 1.0]),
    )
    def submit(self, count, timeout, retries, queue_timeout):
        for _ in range(count):
            if not self.world.ended:
                self.world.submit(timeout, queue_timeout, retries)

    @precondition(lambda self: self._laid)
    @rule(data=st.data())
    def begin(self, data):
        self._begin(self._pick(data, self._laid))

    def _begin(self, worker):
        """It takes the next task, and notes that in its flight recorder."""
        self.world.begin(worker)
        task = self.world.running.get(worker)
        # It may have taken it before, as its tray was being emptied.
        if task is not None and self.world.recorded.get(worker) != task:
            self.world.recorded[worker] = task
            assert task not in self.begun or self.world.specs[task].retries, "it runs twice"
            self.begun.add(task)

    @precondition(lambda self: self._laid or self.world.running)
    @rule(data=st.data(), count=st.integers(1, 12), heard=st.booleans())
    def work(self, data, count, heard):
        worker = self._pick(data, {*self._laid, *self.world.running})
        for _ in range(count):
            if worker not in self.world.running and not self.world.trays.get(worker):
                break
            self._begin(worker)
            self.world.run_ahead(worker)
        if heard:
            self.world.hear(worker)
        if any(map(self.world.trays.get, self.world.trays)):
            event("laid out")

    @rule(after=st.sampled_from([0, 1, 2, 1000]))
    def sneak_in(self, after):
        """From here on workers take something while their trays are being emptied."""
        self.world.sneaks_in = after

    @precondition(lambda self: self.world.unheard)
    @rule(data=st.data())
    def hear(self, data):
        self.world.hear(self._pick(data, self.world.unheard))

    @precondition(lambda self: self.world.core.book.tasks)
    @rule(data=st.data(), grace=st.sampled_from([None, 0.5]), is_laid_out=st.booleans())
    def kill_task(self, data, grace, is_laid_out):
        laid = {task for tasks in self.world.trays.values() for task in tasks}
        tasks = laid if is_laid_out and laid else self.world.core.book.tasks
        task = self._pick(data, tasks)
        others = {
            worker
            for worker, unheard in self.world.unheard.items()
            if worker in self.world.running and any(answer.task == task for answer in unheard)
        }
        before = set(self.world.killed)
        self.world.say(ev.TaskKillRequested(task, grace))
        assert not others & (self.world.killed - before), "another task dies of it"

    @precondition(lambda self: self.world.core.book.queue)
    @rule(data=st.data())
    def cancel_queued(self, data):
        self.world.cancel(self._pick(data, self.world.core.book.queue))

    @precondition(lambda self: self.world.core.book.queue)
    @rule(data=st.data(), count=st.integers(1, 4))
    def cancel_queued_without_a_word(self, data, count):
        """The futures are cancelled; the core is told later, or finds out."""
        for _ in range(count):
            task = self._pick(data, self.world.core.book.queue)
            self.world.claimed.add(task)
            self.world.cancelled.add(task)

    @precondition(lambda self: self.world.claimed)
    @rule(data=st.data())
    def tell_of_cancellation(self, data):
        task = self._pick(data, self.world.claimed)
        self.world.say(ev.TaskCancelled(task))
        self.world.claimed.discard(task)

    @precondition(lambda self: self.world.core.book.tasks)
    @rule(data=st.data(), is_laid_out=st.booleans())
    def withdraw(self, data, is_laid_out):
        laid = {task for tasks in self.world.trays.values() for task in tasks}
        tasks = laid if is_laid_out and laid else self.world.core.book.tasks
        self.world.say(ev.TaskWithdrawn(self._pick(data, tasks)))

    @precondition(lambda self: self.world.alive)
    @rule(data=st.data(), code=st.sampled_from([0, -9, None]))
    def die(self, data, code):
        self.world.exit(self._pick(data, self.world.alive), code)

    @precondition(lambda self: self.world.alive)
    @rule(
        data=st.data(),
        said=st.sampled_from([ev.WorkerChannelClosed, ev.WorkerReady, ev.WorkerBrokeProtocol]),
    )
    def break_the_protocol(self, data, said):
        worker = self._pick(data, self.world.alive)
        self.world.hear(worker)
        if worker in self.world.alive:
            last, left = self.world.recorded.get(worker, 0), ()
            if said is ev.WorkerBrokeProtocol:
                left = tuple(self.world.trays.pop(worker, ()))
            args = ("wrote garbage", last, left) if said is ev.WorkerBrokeProtocol else ()
            if said is not ev.WorkerReady:
                self.world.deaf.add(worker)
            self.world.say(said(worker, *args))

    @precondition(lambda self: self.world.asked & self.world.alive)
    @rule(data=st.data())
    def give_stack(self, data):
        worker = self._pick(data, self.world.asked & self.world.alive)
        self.world.give_stack(worker, self.world.recorded.get(worker, 0))

    @precondition(lambda self: self.world.killed | self.world.unborn)
    @rule()
    def recover(self):
        self.world.reap()
        self.world.warm_all()

    @rule(seconds=st.sampled_from([0.001, PATIENCE, 0.6, 10.0]))
    def pass_time(self, seconds):
        if not self.world.ended:
            self.world.pass_time(seconds)

    @rule(really=st.integers(0, 7), close=st.booleans(), cancel=st.booleans())
    def end(self, really, close, cancel):
        if not self.world.ended and not really:
            self.world.say(ev.CloseRequested(1.0) if close else ev.ShutdownRequested(cancel))

    @invariant()
    def nothing_stays_in_a_tray_for_long(self):
        if not hasattr(self, "world"):
            return
        for worker in self.world.core.roster.workers.values():
            assert len(worker.tray) <= MOST
            if worker.id in self.world.core.roster.laid and len(self.world.core.roster.slots) > 1:
                assert worker.tray_at <= self.world.now + PATIENCE

    @invariant()
    def what_never_began_did_not_die_with_a_worker(self):
        if not hasattr(self, "world"):
            return
        for task, given in self.world.answers.items():
            failure = getattr(given[0], "failure", None) if given else None
            if failure is not None and failure.kind is ev.FailureKind.DIED and failure.started:
                assert task in self.begun

    def teardown(self):
        if not hasattr(self, "world"):
            return
        if not self.world.ended:
            self.world.let_time_alone_pass()
        if not self.world.ended:
            self.world.heal()
        self.world.close()


TrayMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)
TestTrays = TrayMachine.TestCase
