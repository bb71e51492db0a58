"""One process in which pools of all start methods live side by side, and have a hard time.

It runs in phases. Each makes the pools, has them ill-treated, lets them get well, and closes them;
then the process has to hold what it held before.
"""

# Light at its top: workers of some start methods import the main module, which imports this one.

from __future__ import annotations

import faulthandler
import logging
import os
import random
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.callers import Scene
    from tests.chaos.ledger import Ledger, Victims
    from tests.chaos.pools import Design
    from tests.chaos.report import Report
    from warmpool import WarmPool

CALLERS = 8
"""Threads beside the main one."""
WARM_UP = 4.0
"""Seconds of the first phase, with whose end the others are compared."""
HANGS_AFTER = 300.0
"""Seconds that a phase may take beyond its own: each wait in it has a bound, and all of them
together do not come to this."""
CLOSES_WITHIN = 30.0
"""Seconds that ``close()`` may take: its grace, and what a machine that is very slow adds."""
HEALS_WITHIN = 90.0
BOOKS_WITHIN = 30.0
"""Seconds that a pool has to do what callbacks have given it meanwhile."""
FILES_GO_WITHIN = 30.0


def main(arguments: list[str]) -> None:
    """Be a host: ``SEED SECONDS PHASES FOLDER``. Prints lines, the last of which is a report."""
    seed, seconds, phases, folder = arguments
    _prepare(Path(folder))
    from tests.chaos.report import Report

    host = Host(seed, Path(folder), Report())
    print("begun", flush=True)
    threading.Thread(target=_tick, name="ticker", daemon=True).start()
    host.live(float(seconds), int(phases))
    faulthandler.cancel_dump_traceback_later()
    print(host.report.dumps(), flush=True)


def _tick() -> None:
    # Whoever reads has a bound for each line.
    try:
        while True:
            print("lives", flush=True)
            time.sleep(1)
    finally:
        os._exit(1)  # Nobody reads any more.


def _prepare(folder: Path) -> None:
    from tests.chaos import faults

    faulthandler.register(signal.SIGUSR2, all_threads=True)
    # Tasks dump core else, at a second for each.
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    faults.limit_descriptors()
    # Where pools are published; short, and nobody else's.
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    logging.basicConfig(filename=folder / "log", format="%(relativeCreated)d %(message)s")


class Host:
    """What the process does.

    Args:
        seed: Decides about it.
        folder: For its files.
        report: To be filled.
    """

    def __init__(self, seed: str, folder: Path, report: Report) -> None:
        from tests.chaos.ledger import Victims

        self.report = report
        self._seed = seed
        self._folder = folder
        self._victims: Victims = Victims()

    def live(self, seconds: float, phases: int) -> None:
        """Live through so many phases of so many seconds each, and one to warm up."""
        from tests.chaos import measure

        before: measure.Holding | None = None
        for number in range(phases + 1):
            duration = seconds if number else min(WARM_UP, seconds)
            faulthandler.dump_traceback_later(duration + HANGS_AFTER, exit=True)
            self._live_through(number, duration)
            now, surplus = measure.settled(before)
            self.report.memory.append(round(now.memory / measure.MiB))
            self.report.problems += [f"after phase {number}: {what}" for what in surplus]
            self._look_for_files(number)
            if before is None:
                before = now.whatever_its_memory()
            elif number == 1:
                # Imports, caches and the interpreter's own arenas level off with the first phase of
                # full length.
                before = before.with_memory_of(now)

    def _live_through(self, number: int, duration: float) -> None:
        from tests.chaos.callers import SIGNAL, Caller, Scene
        from tests.chaos.ledger import Ledger
        from tests.chaos.mischief import Mischief
        from tests.chaos.pools import DESIGNS, Watcher

        seed = f"{self._seed}/{number}"
        rng = random.Random(seed)
        folder = self._folder / f"phase-{number}"
        folder.mkdir()
        ledger = Ledger(folder / "runs", self._victims)
        watcher = Watcher(f"{seed} watcher")
        pools = {design.label: (design, design.make(watcher)) for design in DESIGNS}
        scene = Scene(pools, ledger, folder)
        callers = [Caller(scene, f"{seed} caller {place}") for place in range(CALLERS)]
        own = Caller(scene, f"{seed} main")
        signal.signal(SIGNAL, own.on_signal)
        for caller in callers:
            caller.start()
        mischief = Mischief(scene, f"{seed} mischief")
        threading.Timer(duration, scene.is_over.set).start()
        own.run()
        rough = rng.sample(sorted(pools), len(pools) // 2)
        for label in rough:
            # With tasks that wait and run, and faults that go on.
            self._close(scene, label, rng)
        mischief.end()
        for caller in callers:
            if not caller.join(HEALS_WITHIN):
                ledger.complain("a caller hangs")
        for label in sorted(set(pools) - set(rough)):
            _get_well(label, pools[label], ledger, HEALS_WITHIN)
        ledger.settle_all()
        for label in sorted(set(pools) - set(rough)):
            self._close(scene, label, rng)
        ledger.settle_all()  # What callbacks have submitted since.
        ledger.look_at_claims()
        ledger.count_runs()
        signal.signal(SIGNAL, signal.SIG_IGN)  # It holds the phase's pools.
        self._take_in(ledger, mischief.committed)

    def _close(self, scene: Scene, label: str, rng: random.Random) -> None:
        pool = scene.pools[label][1]
        scene.ledger.closing(label)
        began = time.monotonic()
        pool.close(rng.choice((None, 0.0, 1.0)))
        took = time.monotonic() - began
        self.report.closings = max(self.report.closings, took)
        if took > CLOSES_WITHIN:
            scene.ledger.complain(f"close() of {label} took {took:.1f} s")

    def _take_in(self, ledger: Ledger, faults: dict[str, int]) -> None:
        from tests.chaos.report import Report

        settled = {label: dict(endings) for label, endings in ledger.counts.items()}
        self.report.add(Report(settled, dict(faults), problems=ledger.problems))

    def _look_for_files(self, number: int) -> None:
        # The publishers' threads are not waited for by a close() that has no time.
        give_up_at = time.monotonic() + FILES_GO_WITHIN
        while (left := list((self._folder / "run").rglob("*.json*"))) and (
            time.monotonic() < give_up_at
        ):
            time.sleep(0.05)
        if left:
            self.report.problems.append(f"after phase {number}: files {left}")


def _get_well(label: str, pool: tuple[Design, WarmPool], ledger: Ledger, patience: float) -> None:
    """See a pool get warm, healthy, and right in its books, now that nobody harms it."""
    from tests.chaos.ledger import check_books
    from tests.helpers import tasks
    from warmpool import Health, QueueTimeout, WarmpoolError

    _, pool_ = pool
    give_up_at = time.monotonic() + patience
    last: BaseException | None = None
    while time.monotonic() < give_up_at:
        try:
            # A worker that was stopped for good is found by its heartbeats.
            futures = [pool_.submit(tasks.echo, number) for number in range(6)]
            assert [future.result(patience) for future in futures] == list(range(6))
            if pool_.health is Health.READY:
                break
        except (WarmpoolError, QueueTimeout) as error:
            last = error
        time.sleep(0.05)
    else:
        ledger.complain(f"{label} does not get well: {pool_!r}; last: {last!r}")
        return
    check_books(pool_, label, ledger, max(give_up_at, time.monotonic() + BOOKS_WITHIN))


if __name__ == "__main__":
    main(sys.argv[1:])
