"""How many workers are to be idle: waiting time against ``min_idle``, by the core's own rules.

``python -m tests.simulation.sizing`` asks it of a pool a hundredth of the size of the one below, in
seconds; ``--scale 1`` of that one: 10,000 workers, 10 million tasks, ten minutes for each
``min_idle``; sizing.md has what came of it. ``--rows FILE`` keeps each answer as soon as there is
one, and what is there is not asked again, so that it may be asked bit by bit. There is no
supervisor and no channel here, only the core, told of arrivals, ends and deaths at their times.
Arrivals and bursts are scaled with the pool; the same share of idle workers serves a small pool a
little worse than a large one.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import random
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.svg import dot, line, text
from warmpool import events as ev
from warmpool.core import Core
from warmpool.facts import Failure, FailureKind
from warmpool.state import Settings

WORKERS, TASKS = 10_000, 10_000_000


@dataclass(frozen=True)
class Load:
    """What is asked of a pool, and what goes wrong. Times in seconds."""

    workers: int
    tasks: int
    arrivals: float
    """Tasks in a second, in the mean."""
    burst: float = 50.0
    """Tasks that come at once, in the mean."""
    task: float = 1.0
    """How long a task takes, in the mean."""
    warm_up: float = 10.0
    faults: float = 0.001
    """How likely a task's worker dies of it."""
    failed_starts: float = 0.01
    idle_timeout: float = 5.0
    seed: int = 0


@dataclass(frozen=True)
class Row:
    """What came of one ``min_idle``."""

    min_idle: int
    mean: float
    median: float
    p95: float
    p99: float
    waited: float
    """The share of tasks that did not run at once."""
    workers: float
    """How many there were in the mean."""
    failed: int
    took: float
    """Seconds of this machine's processor."""


class Plant:
    """A core, and its outside reduced to times.

    Args:
        load: What is asked of it.
        min_idle: Workers kept ready.
    """

    def __init__(self, load: Load, min_idle: int) -> None:
        self._load = load
        self._rng = random.Random(load.seed)
        self._arrivals = random.Random(load.seed)
        # The same for each min_idle.
        self._core = Core(
            Settings(
                load.workers,
                init_timeout=100.0 * load.warm_up,
                heartbeat_timeout=None,
                min_idle=min_idle,
                idle_timeout=load.idle_timeout,
            ),
            self._rng.random,
        )
        self._now = 0.0
        self._due: list[tuple[float, int, Callable[[int], None], int]] = []
        self._order = itertools.count()
        self._came = array("d", bytes(8 * (load.tasks + 1)))
        self.waits = array("d")
        self.failed = 0
        self._present = 0
        self._worker_seconds = 0.0
        self._counted_at = 0.0
        self._counts = False
        self._actions: dict[type[ev.Command], Callable[[ev.Command], None]] = {
            ev.StartWorker: self._on_start,
            ev.DispatchTask: self._on_dispatch,
            ev.StopWorker: self._on_stop,
            ev.KillWorker: self._on_stop,
            ev.SettleTask: self._on_settle,
        }

    def run(self) -> None:
        """Until every task has an answer."""
        self._obey(self._core.open(0.0))
        # Warm before the first task comes.
        start = 20.0 * self._load.warm_up
        self._pass_time(start)
        self._counts, self._counted_at = True, start
        left, number = self._load.tasks, 0
        gap = self._load.burst / self._load.arrivals
        at = start
        while left:
            at += self._arrivals.expovariate(1.0 / gap)
            self._pass_time(at)
            size = min(left, 1 + int(self._arrivals.expovariate(1.0 / self._load.burst)))
            left -= size
            for _ in range(size):
                number += 1
                self._came[number] = at
                self._say(ev.TaskSubmitted(ev.TaskSpec(number)))
        self._count()
        self.workers = self._worker_seconds / (self._now - start)
        self._counts = False
        while len(self._core.book.tasks):
            self._pass_time(self._now + self._load.task)

    # ------------------------------------------------------------------ time

    def _pass_time(self, until: float) -> None:
        core, due = self._core, self._due
        while True:
            deadline = core.next_deadline()
            at = due[0][0] if due else math.inf
            if deadline is not None and deadline < at:
                if deadline > until:
                    break
                self._now = max(self._now, deadline)
                self._say(ev.TimePassed())
                continue
            if at > until:
                break
            at, _, call, worker = heapq.heappop(due)
            self._now = at
            call(worker)
        self._now = until

    def _later(self, seconds: float, call: Callable[[int], None], worker: int) -> None:
        heapq.heappush(self._due, (self._now + seconds, next(self._order), call, worker))

    def _say(self, event: ev.Event) -> None:
        self._obey(self._core.handle(event, self._now))

    def _obey(self, commands: list[ev.Command]) -> None:
        for command in commands:
            action = self._actions.get(type(command))
            if action is not None:
                action(command)

    def _count(self) -> None:
        if self._counts:
            self._worker_seconds += self._present * (self._now - self._counted_at)
            self._counted_at = self._now

    # ------------------------------------------------------------------ workers

    def _on_start(self, command: ev.Command) -> None:
        assert isinstance(command, ev.StartWorker)
        self._count()
        self._present += 1
        self._later(0.0, self._spawn, command.worker)

    def _spawn(self, worker: int) -> None:
        if self._rng.random() < self._load.failed_starts:
            self._count()
            self._present -= 1
            failure = Failure(FailureKind.START_FAILED, worker, stage="starting")
            self._say(ev.WorkerStartFailed(worker, failure))
            return
        self._say(ev.WorkerSpawned(worker, worker))
        self._later(self._load.warm_up * self._rng.uniform(0.5, 1.5), self._ready, worker)

    def _ready(self, worker: int) -> None:
        if worker in self._core.roster.workers:
            self._say(ev.WorkerGreeted(worker))
            self._say(ev.WorkerReady(worker))

    def _on_dispatch(self, command: ev.Command) -> None:
        assert isinstance(command, ev.DispatchTask)
        self.waits.append(self._now - self._came[command.task])
        dies = self._rng.random() < self._load.faults
        seconds = self._rng.expovariate(1.0 / self._load.task)
        self._later(seconds, self._die if dies else self._done, command.worker)

    def _done(self, worker: int) -> None:
        task = self._core.roster.workers[worker].task
        assert task is not None
        self._say(ev.TaskDone(worker, task, ev.Outcome.RETURNED))

    def _die(self, worker: int) -> None:
        task = self._core.roster.workers[worker].task or 0
        self._gone(worker, task)

    def _on_stop(self, command: ev.Command) -> None:
        assert isinstance(command, ev.StopWorker | ev.KillWorker)
        self._later(0.01, self._leave, command.worker)

    def _leave(self, worker: int) -> None:
        if worker in self._core.roster.workers:
            self._gone(worker, 0)

    def _gone(self, worker: int, task: int) -> None:
        self._count()
        self._present -= 1
        self._say(ev.WorkerExited(worker, -9, task))

    def _on_settle(self, command: ev.Command) -> None:
        assert isinstance(command, ev.SettleTask)
        self.failed += command.failure is not None


def ask(load: Load, min_idle: int) -> Row:
    """Simulate one ``min_idle``."""
    began = time.process_time()
    plant = Plant(load, min_idle)
    plant.run()
    waits = sorted(plant.waits)

    def share(part: float) -> float:
        return waits[min(len(waits) - 1, int(part * len(waits)))]

    return Row(
        min_idle,
        sum(waits) / len(waits),
        share(0.5),
        share(0.95),
        share(0.99),
        sum(wait > 0.0 for wait in waits) / len(waits),
        plant.workers,
        plant.failed,
        time.process_time() - began,
    )


def _once(load: Load, min_idle: int, kept: Path | None) -> Row:
    """The same, unless the answer is kept."""
    key = {**asdict(load), "min_idle": min_idle}
    if kept is not None and kept.exists():
        for entry in kept.read_text(encoding="utf-8").splitlines():
            known = json.loads(entry)
            if known["asked"] == key:
                return Row(**known["answer"])
    row = ask(load, min_idle)
    if kept is not None:
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"asked": key, "answer": asdict(row)}) + "\n")
    return row


# ---------------------------------------------------------------------- what it looks like


def table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    head = (
        f"{'min_idle':>8} {'mean':>9} {'median':>9} {'95 %':>9} {'99 %':>9} "
        f"{'waited':>8} {'workers':>9} {'failed':>8} {'took':>8}"
    )
    lines = [
        f"{r.min_idle:8,} {_time(r.mean)} {_time(r.median)} {_time(r.p95)} {_time(r.p99)} "
        f"{r.waited:8.2%} {r.workers:9,.1f} {r.failed:8,} {r.took:6.0f} s"
        for r in rows
    ]
    return "\n".join([head, *lines])


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:6.0f} ms"


LEFT, RIGHT, TOP, BOTTOM = 70, 30, 60, 50
WIDTH, HEIGHT = 900, 420
LEAST = 1e-3
"""Seconds that are drawn at the bottom, as is less."""
_COLOURS = {"mean": "#000000", "p95": "#1f78b4", "p99": "#d7301f"}


def plot(load: Load, rows: Sequence[Row]) -> str:
    """The rows as a chart in SVG: waiting time, on a logarithmic scale, against ``min_idle``."""
    return "\n".join(_plot(load, rows)) + "\n"


def _plot(load: Load, rows: Sequence[Row]) -> Iterator[str]:
    most = max(LEAST * 10, *(row.p99 for row in rows))
    decades = math.ceil(math.log10(most / LEAST))
    widest = max(1, *(row.min_idle for row in rows))

    def place(min_idle: int, seconds: float) -> tuple[float, float]:
        height = math.log10(max(seconds, LEAST) / LEAST) / decades
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * min_idle / widest,
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * height,
        )

    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">'
    )
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    yield text(16, 24, "Seconds that a task waits for a worker, against min_idle", size=15)
    for decade in range(decades + 1):
        seconds = LEAST * 10**decade
        x, y = place(0, seconds)
        yield line(x, y, WIDTH - RIGHT, y, "#dddddd")
        yield text(x - 8, y + 4, f"{seconds:g}", colour="#555555", anchor="end")
    for row in rows:
        x, _ = place(row.min_idle, LEAST)
        yield text(x, HEIGHT - BOTTOM + 18, f"{row.min_idle:,}", colour="#555555", anchor="middle")
    for number, (name, colour) in enumerate(_COLOURS.items()):
        points = [place(row.min_idle, getattr(row, name)) for row in rows]
        for before, after in itertools.pairwise(points):
            yield line(*before, *after, colour, width=2)
        for (x, y), row in zip(points, rows, strict=True):
            yield dot(x, y, colour, f"{name}: {getattr(row, name):.4f} s")
        yield dot(LEFT + 10 + 90 * number, 44, colour, name)
        yield text(LEFT + 20 + 90 * number, 48, name)
    yield text(16, HEIGHT - 10, _words(load), colour="#555555", size=11)
    yield "</svg>"


def _words(load: Load) -> str:
    return (
        f"{load.workers:,} workers, {load.tasks:,} tasks, {load.arrivals:,g} a second in bursts of "
        f"{load.burst:g}, of {load.task:g} s; warm-up {load.warm_up:g} s; {load.faults:.2%} of "
        f"tasks kill their worker, {load.failed_starts:.1%} of starts fail"
    )


def main() -> None:
    """Ask what the arguments say."""
    parser = argparse.ArgumentParser(prog="tests.simulation.sizing", description=__doc__)
    add = parser.add_argument
    add("--scale", type=float, default=100.0, help="a pool so many times smaller; 1: none")
    add("--tasks", type=int, help=f"default: {TASKS:,} by the scale")
    add("--arrivals", type=float, default=3000.0, help="tasks in a second, before the scale")
    add("--burst", type=float, default=500.0, help="tasks at once, in the mean, before the scale")
    add("--task", type=float, default=1.0, help="seconds that a task takes, in the mean")
    add("--warm-up", type=float, default=10.0, help="seconds until a worker is warm")
    add("--faults", type=float, default=0.001, help="share of tasks that kill their worker")
    add("--failed-starts", type=float, default=0.01, help="share of starts that fail")
    add("--idle-timeout", type=float, default=5.0)
    add("--min-idle", type=int, nargs="+", help="before the scale; default: a range")
    add("--seed", type=int, default=0)
    add("--rows", type=Path, help="where answers are kept")
    add("--svg", type=Path, help="where the plot goes")
    given = parser.parse_args()
    scale = given.scale
    load = Load(
        max(1, round(WORKERS / scale)),
        given.tasks or max(1, round(TASKS / scale)),
        given.arrivals / scale,
        max(1.0, given.burst / scale),
        given.task,
        given.warm_up,
        given.faults,
        given.failed_starts,
        given.idle_timeout,
        given.seed,
    )
    wanted = given.min_idle or (0, 250, 500, 1000, 2000, 3000, 4000)
    print(_words(load), flush=True)
    rows = [_once(load, round(number / scale), given.rows) for number in wanted]
    print(table(rows))
    if given.svg is not None:
        given.svg.write_text(plot(load, rows), encoding="utf-8")


if __name__ == "__main__":
    main()
