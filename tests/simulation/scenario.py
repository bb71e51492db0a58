"""One seed: a pool of some kind, its callers and its weather, from the first worker to the end."""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
import traceback
from dataclasses import dataclass
from typing import Any

from tests.simulation.callers import Callers
from tests.simulation.machine import SimThread, Violation
from tests.simulation.weather import BAD, CALM, FAIR, OUTAGE, STORM, Weather
from tests.simulation.world import World
from warmpool import WarmPool, errors
from warmpool.events import Health

HOUR = 3600.0
CLOSE_SLACK = 0.25
"""Seconds by which ``close(timeout)`` may be late: as its caller's thread gets to run."""
LONGEST_DEATH = 60.0
"""Seconds after which whoever was killed is dead."""
LONGEST_DELAY = 36.0


@dataclass(frozen=True)
class Kind:
    """How pools of a kind live. All times in seconds, from the least to the most."""

    lasts: tuple[float, float]
    pause: tuple[float, float]
    job: tuple[float, float]
    limit: tuple[float, float]
    heartbeats: tuple[float, ...]
    spell: float
    """How long a weather lasts, in the mean."""
    weathers: tuple[Weather, ...]
    lifetimes: tuple[float | None, ...] = (None,)
    idle_timeouts: tuple[float, ...] = (1.0,)


KINDS: dict[str, Kind] = {
    "storm": Kind(
        lasts=(30.0, 400.0),
        pause=(0.02, 2.0),
        job=(0.0005, 0.5),
        limit=(0.5, 5.0),
        heartbeats=(0.5, 2.5),
        spell=30.0,
        weathers=(STORM, STORM, BAD, FAIR, OUTAGE),
        lifetimes=(None, None, 20.0),
        idle_timeouts=(0.5, 5.0),
    ),
    "everyday": Kind(
        lasts=(4 * HOUR, 24 * HOUR),
        pause=(300.0, 1800.0),
        job=(0.01, 30.0),
        limit=(10.0, 60.0),
        heartbeats=(60.0, 120.0),
        spell=2 * HOUR,
        weathers=(FAIR, FAIR, FAIR, CALM, BAD),
        lifetimes=(None, HOUR, 4 * HOUR),
        idle_timeouts=(60.0, 600.0),
    ),
    "quiet": Kind(
        lasts=(200 * HOUR, 1000 * HOUR),
        pause=(4 * HOUR, 24 * HOUR),
        job=(0.1, 60.0),
        limit=(30.0, 600.0),
        heartbeats=(600.0, 1800.0),
        spell=72 * HOUR,
        weathers=(FAIR, CALM),
        lifetimes=(None, 24 * HOUR, 12 * HOUR),
        idle_timeouts=(600.0, 4 * HOUR),
    ),
}


@dataclass(frozen=True)
class Report:
    """What a seed has come to."""

    seed: int
    kind: str
    hours: float
    events: int
    """What the core has heard."""
    workers: int
    tasks: int
    faults: int
    outcomes: dict[str, int]
    fingerprint: str


class Failed(AssertionError):
    """A seed has broken a promise; the message tells the story."""

    def __init__(self, seed: int, kind: str, error: BaseException, story: str) -> None:
        super().__init__(
            f"seed {seed} ({kind}): {type(error).__name__}: {error}\n{story}\n"
            f"again: python -m tests.simulation --seed {seed} --only {kind}"
        )
        self.seed = seed
        self.error = error


def run(seed: int, kind: str) -> Report:
    """Live through a seed.

    Raises:
        Failed: A promise is broken.
    """
    world = World(seed)
    scenario = Scenario(world, KINDS[kind])
    try:
        world.run(scenario.play)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise Failed(seed, kind, error, world.machine.tell()) from error
    return Report(
        seed,
        kind,
        scenario.lasted / HOUR,
        world.events,
        world.births,
        world.judge.judged,
        world.faults,
        world.judge.outcomes,
        world.machine.fingerprint,
    )


class Scenario:
    """What befalls a pool.

    Args:
        world: Where.
        kind: Of which kind the pool is.
    """

    def __init__(self, world: World, kind: Kind) -> None:
        self._world = world
        self._machine = world.machine
        self._rng = world.machine.rng
        self._kind = kind
        self.lasted = 0.0
        """Seconds."""

    def play(self) -> None:
        """All of it."""
        rng, machine, world, kind = self._rng, self._machine, self._world, self._kind
        options = self._draw()
        world.most_server_deaths = max(weather.server_deaths for weather in kind.weathers)
        pool = world.make_pool(**options)
        callers = Callers(
            world,
            pool,
            rng.uniform(*kind.pause),
            rng.uniform(*kind.job),
            rng.uniform(*kind.limit),
        )
        began = machine.now
        lasts = rng.uniform(*kind.lasts)
        world.stop_host_now_and_then(max(weather.host_stops for weather in kind.weathers))
        self._change_weather(began + lasts)
        threads = [machine.start(callers.live, f"caller {n}") for n in range(rng.randint(1, 4))]
        machine.sleep(lasts)
        if rng.random() < 0.4:
            self._end_in_the_midst(pool, callers, threads)
        else:
            self._end_of_faults(pool, callers, threads)
        machine.sleep(LONGEST_DEATH + machine.stalled_since(machine.now))
        self.lasted = machine.now - began
        del pool, callers
        self._look_for_what_is_left()

    def _draw(self) -> dict[str, Any]:
        """What kind of pool it is."""
        rng, world, kind = self._rng, self._world, self._kind
        world.max_workers = workers = rng.choice((1, 1, 2, 2, 3, 4, 8))
        world.method = rng.choice(("forkserver", "spawn", "template"))
        world.init_timeout = rng.choice((2.0, 10.0, 60.0))
        world.init_seconds = world.init_timeout * rng.choice((0.001, 0.1, 0.3))
        world.start_seconds = rng.choice((0.003, 0.05))
        world.grace = rng.choice((0.5, 5.0))
        world.max_queue = rng.choice((None, None, 3))
        world.shows_status = rng.random() < 0.5
        world.kernel.strangers = rng.choice((0.0, 0.5, 1.0))
        world.machine.switchiness = rng.choice((0.05, 0.3, 0.9))
        interval = rng.choice(kind.heartbeats)
        world.heartbeat_timeout = timeout = interval * rng.choice((4.0, 20.0))
        world.beat_interval = interval
        options: dict[str, Any] = {
            "heartbeat_interval": interval,
            "heartbeat_timeout": timeout,
            "max_tasks_per_child": rng.choice((None, None, None, 1, 5)),
            "worker_lifetime": rng.choice(kind.lifetimes),
        }
        if rng.random() < 0.4:
            options["min_idle"] = rng.randint(0, workers)
            options["idle_timeout"] = rng.choice(kind.idle_timeouts)
        if rng.random() < 0.2 and kind is KINDS["storm"]:
            options["memory_limit"] = 1 << 30
        if rng.random() < 0.2:
            options["on_event"] = lambda notice: None
        world.kernel.tells_of_the_reaped = rng.random() < 0.5
        self._options = options
        self._machine.note("pool", f"{workers} workers", world.method, sorted(options))
        return options

    def _change_weather(self, until: float) -> None:
        machine, world = self._machine, self._world
        if machine.now >= until:
            return
        world.change(self._rng.choice(self._kind.weathers))
        machine.note("weather", _NAMES.get(world.weather, "?"))
        seconds = self._rng.expovariate(1.0 / self._kind.spell)
        machine.after(seconds, functools.partial(self._change_weather, until))

    # ------------------------------------------------------------------ ends

    def _end_in_the_midst(self, pool: WarmPool, callers: Callers, threads: list[SimThread]) -> None:
        """The pool ends while everything goes on."""
        rng, machine = self._rng, self._machine
        timeout = rng.choice((None, 0.0, 0.3, 3.0, 30.0))
        closers = [
            machine.start(lambda: self._close(pool, timeout), f"closer {n}")
            for n in range(rng.randint(1, 2))
        ]
        for closer in closers:
            machine.join(closer)
        callers.goes_on = False
        # A caller that sleeps between two tasks takes that long.
        self._join(threads, 50 * self._kind.pause[1] + 1000 * self._kind.limit[1])
        self._world.change(CALM)
        self._judge_the_rest()

    def _end_of_faults(self, pool: WarmPool, callers: Callers, threads: list[SimThread]) -> None:
        """Faults stop; the pool has to heal, and ends after that."""
        machine, world = self._machine, self._world
        callers.goes_on = False
        world.change(CALM)
        machine.note("weather", "calm, from here on")
        self._join(threads, 50 * self._kind.pause[1] + 1000 * self._kind.limit[1])
        for record in list(world.judge.unanswered()):
            record.killed = True
            assert record.future is not None
            record.future.kill()
        machine.sleep(
            2 * world.heartbeat_timeout + 3 * world.init_timeout + LONGEST_DEATH + LONGEST_DELAY
        )
        self._judge_the_rest()
        self._see_that_it_is_well(pool, callers)
        if self._rng.random() < 0.5:
            self._close(pool, self._rng.choice((None, 1.0, 30.0)))
        else:
            self._shut_down(pool)

    def _see_that_it_is_well(self, pool: WarmPool, callers: Callers) -> None:
        machine, world = self._machine, self._world
        machine.note("pool", "has to be well now")
        try:
            pool.wait_warm(3 * world.init_timeout + LONGEST_DELAY)
        except (errors.WarmpoolError, TimeoutError) as error:
            raise Violation(f"the pool does not get warm though all is well: {error!r}") from error
        stats = pool.stats()
        well = {Health.READY}
        if self._options["worker_lifetime"] is not None:
            well.add(Health.WARMING)  # Its only worker may be retiring at this moment.
        if pool.health not in well:
            raise Violation(f"all is well, and the pool says {pool.health}: {stats}")
        is_steady = "min_idle" not in self._options and self._options["worker_lifetime"] is None
        if is_steady and stats.workers != {"idle": world.max_workers}:
            raise Violation(f"all is well, and there are {stats.workers}")
        records = []
        for _ in range(2 * world.max_workers):
            with contextlib.suppress(errors.PoolSaturated):
                records.append(callers.submit(most_options=False))
        for record in records:
            assert record.future is not None
            try:
                error = record.future.exception(1000.0)
            except TimeoutError:
                raise Violation("all is well, and a task has no answer") from None
            if error is not None and not record.raises:
                raise Violation(f"all is well, and a task fails: {error!r}")
        machine.sleep(1.0)
        self._judge_the_rest()

    def _close(self, pool: WarmPool, timeout: float | None) -> None:
        machine, world = self._machine, self._world
        world.is_ending = True
        before = machine.now
        machine.note("pool", "is closed within", timeout)
        pool.close(timeout)
        took = machine.now - before
        bound = world.grace + 2 * 10.0 if timeout is None else timeout
        if took > bound + CLOSE_SLACK + machine.stalled_since(before):
            raise Violation(f"close({timeout}) takes {took:.3f} s")

    def _shut_down(self, pool: WarmPool) -> None:
        world = self._world
        world.is_ending = True
        world.cancels = self._rng.random() < 0.5
        self._machine.note("pool", "is shut down")
        pool.shutdown(wait=True, cancel_futures=world.cancels)

    def _join(self, threads: list[SimThread], patience: float) -> None:
        for thread in threads:
            if not self._machine.join(thread, patience):
                frame = sys._current_frames()[thread.real.ident or 0]
                where = "".join(traceback.format_stack(frame)[-8:])
                raise Violation(f"{thread.name} waits for more than {patience} s:\n{where}")

    # ------------------------------------------------------------------ what is left

    def _judge_the_rest(self) -> None:
        machine, judge = self._machine, self._world.judge
        machine.sleep(LONGEST_DEATH)  # Callbacks come in their own time.
        for record in list(judge.records.values()):
            if record.future is None:
                continue
            if not record.future.done():
                raise Violation(f"job {record.number} is not answered: {record}")
            judge.judge(record)

    def _look_for_what_is_left(self) -> None:
        world, kernel = self._world, self._world.kernel
        gc.collect()
        left = [f"worker {worker.number}" for worker in world.living()]
        left += [p.owner for p in kernel.processes.values() if p.owner == "server" and p.is_alive]
        left += [f"descriptor {fd}: {file.what}" for fd, file in kernel.files.items()]
        left += [f"thread {thread.name}" for thread in self._machine.threads]
        if left:
            raise Violation("left behind: " + ", ".join(left))


_NAMES: dict[Weather, str] = {
    CALM: "calm",
    FAIR: "fair",
    BAD: "bad",
    STORM: "a storm",
    OUTAGE: "an outage",
}
