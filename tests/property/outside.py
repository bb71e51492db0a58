"""Workers as the outside sees them, and whether a command fits what they are.

Shared by the worlds around the core: Hypothesis walks at random in the one, the exploration walks
everywhere in the other.
"""

from __future__ import annotations

from typing import Any, ClassVar

from warmpool import events as ev


class Outside:
    """Which processes there are, and what they were told."""

    unborn: set[int]
    """Starts that were asked for and have not been reported on."""
    alive: set[int]
    killed: set[int]
    """Those that were sent SIGKILL, or whose start was given up."""
    stopped: set[int]
    asked: set[int]
    """Those who are to write down their stack."""
    running: dict[int, int]
    """Which task a worker was sent last, or took, as long as it has not answered it."""
    trays: dict[int, list[int]]
    """What is laid out for whom."""
    follow_ups: list[ev.TakenBack | ev.TaskCancelled]
    """What was found in the trays that were to be emptied, and what was not sent."""
    sneaks_in: int
    """After how many that are taken out of a tray the worker takes one."""
    claimed: set[int]
    """Tasks that their callers have cancelled, of which the core does not know yet."""

    def __init__(self) -> None:
        self.unborn = set()
        self.alive = set()
        self.killed = set()
        self.stopped = set()
        self.asked = set()
        self.running = {}
        self.trays = {}
        self.follow_ups = []
        self.claimed = set()
        self.sneaks_in = 1000

    def obey_one(self, command: ev.Command) -> None:
        """Do what the core says, if that can be done."""
        getattr(self, self.ORDERS[type(command)])(command)

    def start(self, command: ev.StartWorker) -> None:
        worker = command.worker
        assert worker not in self.alive
        assert worker not in self.unborn
        self.unborn.add(worker)

    def dispatch(self, command: ev.DispatchTask) -> None:
        worker = command.worker
        assert worker in self.alive, "a task goes to a worker that is not there"
        assert worker not in self.killed, "a task goes to a worker that was killed"
        assert worker not in self.stopped, "a task goes to a worker that was asked to leave"
        assert worker not in self.running, "one task at a time"
        assert not self.trays.get(worker), "what is laid out comes first"
        if command.task in self.claimed:
            self.follow_ups.append(ev.TaskCancelled(command.task))
        else:
            self.give(worker, command.task)

    def give(self, worker: int, task: int) -> None:
        """It has it now."""
        self.running[worker] = task

    def lay_out(self, command: ev.LayOut) -> None:
        worker = command.worker
        assert worker in self.alive, "a task is laid out for a worker that is not there"
        assert worker not in self.killed, "a task is laid out for a worker that was killed"
        for task in command.tasks:
            if task in self.claimed:
                self.follow_ups.append(ev.TaskCancelled(task))
            else:
                self.trays.setdefault(worker, []).append(task)

    def take_back(self, command: ev.TakeBack) -> None:
        worker = command.worker
        assert worker in self.alive
        found = self.trays.pop(worker, [])
        if worker not in self.running and len(found) > self.sneaks_in:
            # Its host takes one out after the other, and the worker one in between.
            self.running[worker] = found.pop(self.sneaks_in)
        self.follow_ups.append(ev.TakenBack(worker, tuple(found)))

    def take_next(self, worker: int) -> bool:
        """A worker that has answered its task takes the next one from its tray, if it has one."""
        if worker not in self.running and self.trays.get(worker):
            self.running[worker] = self.trays[worker].pop(0)
            return True
        return False

    def stop(self, command: ev.StopWorker) -> None:
        worker = command.worker
        assert worker in self.alive, "one that is not there is asked to leave"
        assert worker not in self.running, "one that has a task is asked to leave"
        assert not self.trays.get(worker), "one that is asked to leave has something in its tray"
        self.stopped.add(worker)

    def take_stack(self, command: ev.TakeStack) -> None:
        worker = command.worker
        assert worker in self.alive, "one that is not there is asked for its stack"
        assert worker not in self.killed
        assert worker not in self.asked
        assert self.has(worker, command.task)
        self.asked.add(worker)

    def interrupt(self, command: ev.InterruptTask) -> None:
        assert self.has(command.worker, command.task), "another task is interrupted"

    def read_heartbeats(self, command: ev.ReadHeartbeats) -> None:
        assert self.alive.issuperset(command.workers)

    def read_memory(self, command: ev.ReadMemory) -> None:
        assert self.alive.issuperset(command.workers)

    def report_memory(self, command: ev.ReportMemory) -> None:
        assert command.worker in self.alive

    def report_silence(self, command: ev.ReportSilence) -> None:
        assert command.worker in self.alive

    def kill(self, command: ev.KillWorker) -> None:
        worker = command.worker
        assert worker in self.alive or worker in self.unborn, "one that is not there is killed"
        self.killed.add(worker)

    def abandon(self, command: ev.AbandonWorker) -> None:
        worker = command.worker
        assert worker in self.alive or worker in self.unborn
        self.forget(worker)

    def has(self, worker: int, task: int | None) -> bool:
        """Whether the worker has this task, as far as can be known here."""
        return self.running.get(worker) == task

    def forget(self, worker: int) -> None:
        """It is gone."""
        self.unborn.discard(worker)
        self.alive.discard(worker)
        self.killed.discard(worker)
        self.stopped.discard(worker)
        self.asked.discard(worker)
        self.running.pop(worker, None)
        self.trays.pop(worker, None)

    ORDERS: ClassVar[dict[type[ev.Command], str]] = {
        ev.StartWorker: "start",
        ev.DispatchTask: "dispatch",
        ev.LayOut: "lay_out",
        ev.TakeBack: "take_back",
        ev.StopWorker: "stop",
        ev.TakeStack: "take_stack",
        ev.InterruptTask: "interrupt",
        ev.ReadHeartbeats: "read_heartbeats",
        ev.ReadMemory: "read_memory",
        ev.ReportMemory: "report_memory",
        ev.ReportSilence: "report_silence",
        ev.KillWorker: "kill",
        ev.AbandonWorker: "abandon",
        ev.SettleTask: "settle",
        ev.DropTask: "drop",
        ev.AnswerWarm: "answer_warm",
        ev.ReportFailure: "report",
        ev.ChangeHealth: "change_health",
        ev.EndPool: "end",
        ev.Tell: "tell",
    }

    def _hear(self, command: Any) -> None:
        """What callers see, of which each world makes something else."""

    settle = drop = answer_warm = report = change_health = end = tell = _hear
