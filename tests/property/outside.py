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
    """Which task a worker was sent last, as long as it has not answered it."""

    def __init__(self) -> None:
        self.unborn = set()
        self.alive = set()
        self.killed = set()
        self.stopped = set()
        self.asked = set()
        self.running = {}

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
        self.running[worker] = command.task

    def stop(self, command: ev.StopWorker) -> None:
        worker = command.worker
        assert worker in self.alive, "one that is not there is asked to leave"
        assert worker not in self.running, "one that has a task is asked to leave"
        self.stopped.add(worker)

    def take_stack(self, command: ev.TakeStack) -> None:
        worker = command.worker
        assert worker in self.alive, "one that is not there is asked for its stack"
        assert worker not in self.killed
        assert worker not in self.asked
        assert self.running.get(worker) == command.task
        self.asked.add(worker)

    def interrupt(self, command: ev.InterruptTask) -> None:
        assert self.running[command.worker] == command.task, "another task is interrupted"

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

    def forget(self, worker: int) -> None:
        """It is gone."""
        self.unborn.discard(worker)
        self.alive.discard(worker)
        self.killed.discard(worker)
        self.stopped.discard(worker)
        self.asked.discard(worker)
        self.running.pop(worker, None)

    ORDERS: ClassVar[dict[type[ev.Command], str]] = {
        ev.StartWorker: "start",
        ev.DispatchTask: "dispatch",
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
