"""A world without processes around the real core: it obeys commands and notes every answer."""

from __future__ import annotations

import itertools
import random

from tests.property.outside import Outside
from warmpool import events as ev
from warmpool.core import Core
from warmpool.ending import Phase
from warmpool.lifecycle import WARM, State
from warmpool.state import Settings

READY = ev.Health.READY


class World(Outside):
    """An outside that remembers everything that it was told."""

    def __init__(self, settings: Settings, seed: int = 0) -> None:
        super().__init__()
        self.core = Core(settings, random.Random(seed).random)
        self.now = 1000.0
        self.recorded: dict[int, int] = {}
        self.noted: dict[int, int] = {}
        """What those who were asked for their stack have started."""
        self.unheard: dict[int, list[ev.TaskDone]] = {}
        """What workers have answered that went on with what is in their trays."""
        self.deaf: set[int] = set()
        """Those of whom nothing is read any more."""
        self.answers: dict[int, list[ev.Command]] = {}
        self.specs: dict[int, ev.TaskSpec] = {}
        self.cancelled: set[int] = set()
        self.warm_answers: dict[int, list[ev.Failure | None]] = {}
        self.abandoned_waiters: set[int] = set()
        self.health: list[ev.Health] = []
        self.reports: list[ev.ReportFailure] = []
        self.starts: list[float] = []
        self.ended = 0
        self.heartbeats_wanted = False
        self.memory_wanted: list[int] = []
        self.memory_reports: list[ev.ReportMemory] = []
        self.interrupts: list[ev.InterruptTask] = []
        self.silences: list[ev.ReportSilence] = []
        self.prompt = False
        """Whether workers write down their stack at once."""
        self.beats: dict[int, int] = {}
        self.silent: set[int] = set()
        """Workers that do not beat any more."""
        self._ids = itertools.count(1)
        self.obey(self.core.open(self.now))

    # ------------------------------------------------------------------ events in

    def say(self, event: ev.Event) -> list[ev.Command]:
        """Tell the core, obey it, and check everything that must always be true."""
        commands = self.core.handle(event, self.now)
        self.obey(commands)
        while self.follow_ups:
            self.say(self.follow_ups.pop(0))
        while self.prompt and self.asked:
            worker = min(self.asked)
            self.give_stack(worker, self.noted.get(worker, 0))
        if self.heartbeats_wanted:
            self.heartbeats_wanted = False
            self.say(ev.HeartbeatsRead({w: self._beat(w) for w in self.in_state(*WARM)}))
        return commands

    def _beat(self, worker: int) -> int:
        self.beats[worker] = self.beats.get(worker, 0) + (worker not in self.silent)
        return self.beats[worker]

    def give_stack(self, worker: int, started: int = 0) -> None:
        """The worker has written down where it is."""
        self.asked.discard(worker)
        self.say(ev.StackTaken(worker, "a stack", started))

    def submit(
        self,
        timeout: float | None = None,
        queue_timeout: float | None = None,
        retries: int = 0,
        soft_timeout: float | None = None,
    ) -> int:
        spec = ev.TaskSpec(next(self._ids), timeout, queue_timeout, retries, soft_timeout)
        self.specs[spec.id] = spec
        self.answers[spec.id] = []
        self.say(ev.TaskSubmitted(spec))
        return spec.id

    def cancel(self, task: int) -> None:
        """The future is cancelled: only one that was never handed over can be."""
        self.cancelled.add(task)
        self.say(ev.TaskCancelled(task))

    def take(self, worker: int, timeout: float | None) -> None:
        """Somebody submits a task by a lease of this worker, which was on loan."""
        assert worker in self.core.on_loan(len(self.alive))
        assert worker not in self.killed | self.stopped
        spec = ev.TaskSpec(next(self._ids), timeout)
        self.specs[spec.id] = spec
        self.answers[spec.id] = []
        self.running[worker] = spec.id
        self.say(ev.TaskTaken(spec, worker, self.now))

    def pass_by(self, worker: int, count: int, outcome: ev.Outcome = ev.Outcome.RETURNED) -> None:
        """Some tasks go past the supervisor to a worker that was on loan, and are answered."""
        assert 0 < count <= self.core.on_loan(len(self.alive))[worker]
        tasks = []
        for _ in range(count):
            spec = ev.TaskSpec(next(self._ids))
            self.recorded[worker] = spec.id
            tasks.append(ev.PassedTask(spec, self.now, self.now, outcome))
        assert self.say(ev.TasksPassed(worker, tuple(tasks))) == []

    def exit(
        self,
        worker: int,
        code: int | None = 0,
        started: int | None = None,
        stack: str | None = None,
    ) -> None:
        """It is gone; its flight recorder says this task, or else the last that it had answered."""
        self.hear(worker)
        started = self.recorded.get(worker, 0) if started is None else started
        left = tuple(self.trays.pop(worker, ()))
        self.alive.discard(worker)
        self.asked.discard(worker)
        self.running.pop(worker, None)
        self.say(ev.WorkerExited(worker, code, started, stack, left=left))

    def spawn(self, worker: int) -> None:
        self.unborn.discard(worker)
        self.alive.add(worker)
        self.say(ev.WorkerSpawned(worker, 10_000 + worker))

    def start_failed(self, worker: int) -> None:
        self.unborn.discard(worker)
        failure = ev.Failure(ev.FailureKind.START_FAILED, worker, stage="starting")
        self.say(ev.WorkerStartFailed(worker, failure))

    def done(self, worker: int, outcome: ev.Outcome = ev.Outcome.RETURNED) -> None:
        self.run_ahead(worker, outcome)
        self.hear(worker)

    def run_ahead(self, worker: int, outcome: ev.Outcome = ev.Outcome.RETURNED) -> None:
        """It answers, and goes on with what is laid out for it before anybody hears of that."""
        task = self.recorded[worker] = self.running.pop(worker)
        answer = ev.TaskDone(worker, task, outcome, b"payload")
        self.unheard.setdefault(worker, []).append(answer)

    def hear(self, worker: int) -> None:
        """Its answers are read."""
        answers = self.unheard.get(worker, [])
        if worker in self.deaf:
            answers.clear()
        while answers:
            self.say(answers.pop(0))
        self.unheard.pop(worker, None)

    def has(self, worker: int, task: int | None) -> bool:
        if self.unheard.get(worker) or super().has(worker, task):
            return True
        emptied = [
            task
            for found in self.follow_ups
            if isinstance(found, ev.TakenBack) and found.worker == worker
            for task in found.tasks
        ]
        return worker not in self.running and [*emptied, *self.trays.get(worker, ())][:1] == [task]

    def give(self, worker: int, task: int) -> None:
        if self.core.settings.lays_out:
            self.trays.setdefault(worker, []).append(task)
        else:
            super().give(worker, task)

    def begin(self, worker: int) -> bool:
        """It takes the next task from its tray, if it has nothing to do and something is there."""
        return self.take_next(worker)

    def warm(self, worker: int) -> None:
        """All that it takes to get a worker warm."""
        if worker in self.unborn:
            self.spawn(worker)
        self.say(ev.WorkerGreeted(worker))
        self.say(ev.WorkerReady(worker))

    def warm_all(self) -> None:
        for worker in sorted(self.unborn | self.in_state(State.STARTING)):
            self.warm(worker)

    # ------------------------------------------------------------------ time

    def pass_time(self, seconds: float) -> None:
        """Let time pass as the supervisor does, from deadline to deadline."""
        until = self.now + seconds
        while (deadline := self.core.next_deadline()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            self.say(ev.TimePassed())
        self.now = until

    def reap(self) -> None:
        """SIGKILL does its work, and so does giving up a start."""
        for worker in sorted(self.killed):
            if worker in self.unborn:
                self.start_failed(worker)
            elif worker in self.alive:
                self.exit(worker, -9)
        self.killed.clear()

    # ------------------------------------------------------------------ commands out

    def obey(self, commands: list[ev.Command]) -> None:
        for command in commands:
            assert not self.ended, f"{command} after the end"
            self.obey_one(command)
        self.core.validate()
        assert len(self.alive | self.unborn) <= self.core.settings.max_workers  # I11

    def start(self, command: ev.StartWorker) -> None:
        super().start(command)
        self.starts.append(self.now)

    def dispatch(self, command: ev.DispatchTask) -> None:
        super().dispatch(command)
        assert not self.unheard.get(command.worker)
        assert not self.answers[command.task]

    def take_stack(self, command: ev.TakeStack) -> None:
        super().take_stack(command)
        self.noted[command.worker] = self.running.pop(command.worker, 0)

    def read_heartbeats(self, command: ev.ReadHeartbeats) -> None:
        super().read_heartbeats(command)
        assert sorted(command.workers) == sorted(self.in_state(*WARM))
        self.heartbeats_wanted = True

    def read_memory(self, command: ev.ReadMemory) -> None:
        super().read_memory(command)
        self.memory_wanted += command.workers

    def report_memory(self, command: ev.ReportMemory) -> None:
        super().report_memory(command)
        self.memory_reports.append(command)

    def report_silence(self, command: ev.ReportSilence) -> None:
        super().report_silence(command)
        self.silences.append(command)

    def interrupt(self, command: ev.InterruptTask) -> None:
        super().interrupt(command)
        self.interrupts.append(command)

    def kill(self, command: ev.KillWorker) -> None:
        super().kill(command)
        self.running.pop(command.worker, None)
        self.asked.discard(command.worker)

    def settle(self, command: ev.SettleTask | ev.DropTask) -> None:
        self.answers[command.task].append(command)
        assert len(self.answers[command.task]) == 1, "one answer"  # I10

    drop = settle

    def answer_warm(self, command: ev.AnswerWarm) -> None:
        given = self.warm_answers[command.waiter]
        given.append(command.failure)
        assert len(given) == 1
        assert command.waiter not in self.abandoned_waiters

    def report(self, command: ev.ReportFailure) -> None:
        self.reports.append(command)

    def change_health(self, command: ev.ChangeHealth) -> None:
        assert not self.health or self.health[-1] is not command.health
        self.health.append(command.health)

    def end(self, command: ev.EndPool) -> None:
        self.ended += 1

    # ------------------------------------------------------------------ looking

    def in_state(self, *states: State) -> set[int]:
        workers = self.core.roster.workers.values()
        return {worker.id for worker in workers if worker.state in states}

    def failure(self, task: int) -> ev.Failure:
        (answer,) = self.answers[task]
        assert isinstance(answer, ev.SettleTask)
        assert answer.failure is not None
        return answer.failure

    def unanswered(self) -> set[int]:
        """Tasks without an answer. (One cancelled at dispatch needs none.)"""
        return {t for t, given in self.answers.items() if not given} - self.cancelled

    # ------------------------------------------------------------------ how it must end

    def let_time_alone_pass(self) -> None:
        """Workers do nothing more, but die if killed: every task has to be answered.

        A task without a limit may run for ever, as its owner asked, while other slots go on
        probing; its worker dies here after a while.
        """
        for step in range(1000):
            self.reap()
            for worker in sorted(self.unheard):
                self.hear(worker)
            for worker in sorted(self.trays):
                self.begin(worker)
            if not self.unanswered():
                return
            deadline = self.core.next_deadline()
            if deadline is not None and step % 50 < 49:
                self.pass_time(deadline - self.now)
                continue
            unlimited = [w for w, task in self.running.items() if self.specs[task].timeout is None]
            assert unlimited or deadline is not None, "a future would be pending for ever"
            if unlimited:
                self.exit(unlimited[0], -9, self.running[unlimited[0]])
        raise AssertionError("the pool is busy for ever and answers nothing")

    def heal(self) -> None:
        """Faults stop: the pool has to get fully warm."""
        for _ in range(200):
            self.reap()
            for worker in sorted(self.stopped & self.alive):
                self.exit(worker, 0)
            self.stopped.clear()
            for worker in sorted(self.unborn):
                self.spawn(worker)
            for worker in sorted(self.in_state(State.STARTING)):
                self.say(ev.WorkerGreeted(worker))
            for worker in sorted(self.in_state(State.INITIALIZING)):
                self.say(ev.WorkerReady(worker))
            for worker in sorted(self.trays):
                self.begin(worker)
            for worker in sorted(self.running):
                self.done(worker)
            for worker in sorted(self.unheard):
                self.hear(worker)
            settings = self.core.settings
            least = settings.max_workers if settings.min_idle is None else settings.min_idle
            if self.core.phase is not Phase.OPEN or (
                len(self.in_state(*WARM)) >= least
                and not self.core.book.queue
                and self.core.health is READY
            ):
                break
            deadline = self.core.next_deadline()
            self.pass_time(0.0 if deadline is None else max(0.0, deadline - self.now))
        if self.core.phase is Phase.OPEN:
            assert len(self.in_state(*WARM)) >= least
            assert self.core.health is READY
            assert not self.core.book.queue

    def close(self) -> None:
        """Closing answers everything and ends, though no worker listens."""
        if not self.ended:
            self.say(ev.CloseRequested(1.0))
            for _ in range(100):
                self.reap()
                if self.ended:
                    break
                self.pass_time(1.0)
        assert self.ended == 1
        assert not self.unanswered()
        assert not (self.alive | self.unborn)
        for waiter, given in self.warm_answers.items():
            assert len(given) == 1 or waiter in self.abandoned_waiters
