"""Threads that give tasks to the pools and wait for them, each time in another way."""

from __future__ import annotations

import itertools
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from types import FrameType
from typing import Any

from tests.chaos import kinds
from tests.chaos.ledger import Entry, Ledger
from tests.chaos.pools import Design
from warmpool import PoolBroken, PoolClosed, PoolSaturated, WarmPool

_numbers = itertools.count(1)


class Interrupted(Exception):
    """What the main thread's signal handler raises, as a Ctrl-C does."""


class Scene:
    """The pools of a phase, and what is known of them. *Threads:* any.

    Args:
        pools: By their labels, with their designs.
        ledger: Of their tasks.
        folder: For what tasks leave.
    """

    def __init__(
        self, pools: dict[str, tuple[Design, WarmPool]], ledger: Ledger, folder: Path
    ) -> None:
        self.pools = pools
        self.ledger = ledger
        self.folder = folder
        self.is_over = threading.Event()

    def submit(self, rng: random.Random, label: str) -> Entry | None:
        """Give a pool a task at random; None if it takes none, and may."""
        design, pool = self.pools[label]
        number = next(_numbers)
        job = kinds.draw(rng, number, self.folder, has_memory_limit=design.has_memory_limit)
        executor: Any = pool.options(**job.options) if job.options else pool
        try:
            future = executor.submit(job.function, self.ledger.runs, number, *job.arguments)
        except PoolClosed:
            if not self.ledger.may_be_closed(label):
                self.ledger.complain(f"{label} is closed, and nobody has closed it")
            return None
        except PoolSaturated:
            if "max_queue" not in design.options:
                self.ledger.complain(f"{label} is saturated")
            return None
        except PoolBroken:
            if kinds.BROKEN not in design.tolerates:
                self.ledger.complain(f"{label} is broken")
            return None
        may_lie = design.has_trays and job.is_small
        entry = Entry(number, job, label, future, set(design.tolerates), may_lie)
        self.ledger.enter(entry)
        return entry


class Caller:
    """One of them.

    Args:
        scene: Where it is.
        seed: Decides what it does.
    """

    def __init__(self, scene: Scene, seed: str) -> None:
        self._scene = scene
        self._ledger = scene.ledger
        self._random = random.Random(seed)
        self._thread = threading.Thread(target=self.run, name=f"caller {seed}", daemon=True)
        self._may_be_interrupted = False
        self._handles = False

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout: float) -> bool:
        """Wait for its end, so many seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def run(self) -> None:
        """Do as others do, until all is over."""
        ways, weights = zip(*WAYS.items(), strict=True)
        while not self._scene.is_over.is_set():
            try:
                way = self._random.choices(ways, weights)[0]
                label = self._random.choice(list(self._scene.pools))
                entries = [
                    entry
                    for _ in range(self._how_many(label))
                    if (entry := self._scene.submit(self._random, label)) is not None
                ]
                if entries:
                    way(self, entries)
                else:
                    time.sleep(0.01)  # Closed, or full.
            except Interrupted:
                pass  # Just after it had waited.
            except BaseException as error:
                self._ledger.complain(f"{self._thread.name}: {error!r}")
                raise

    def _how_many(self, label: str) -> int:
        # Tasks are laid out for busy workers only where many wait.
        many = (30,) if self._scene.pools[label][0].has_trays else ()
        return self._random.choice((1, 1, 1, 1, 1, 2, 2, 6, 6, *many))

    # ------------------------------------------------------------------ ways to wait

    def _wait(self, entry: Entry, patience: float) -> bool:
        try:
            self._may_be_interrupted = True
            entry.future.exception(patience)
        except (TimeoutError, futures.CancelledError, Interrupted):
            pass
        finally:
            self._may_be_interrupted = False
        if entry.future.done():
            self._ledger.settle(entry)
            return True
        return self._scene.is_over.is_set()

    def in_result(self, entries: list[Entry]) -> None:
        for entry in entries:
            while not self._wait(entry, 1.0):
                pass

    def impatiently(self, entries: list[Entry]) -> None:
        patience = 0.0
        for entry in entries:
            while not self._wait(entry, patience):
                patience = min(0.1, patience + 0.0005)

    def all_at_once(self, entries: list[Entry]) -> None:
        left: dict[futures.Future[object], Entry] = {entry.future: entry for entry in entries}
        while left and not self._scene.is_over.is_set():
            done, _ = futures.wait(left, 1.0, self._random.choice(_UNTIL))
            for future in done:
                self._ledger.settle(left.pop(future))

    def as_they_come(self, entries: list[Entry]) -> None:
        left: dict[futures.Future[object], Entry] = {entry.future: entry for entry in entries}
        while left and not self._scene.is_over.is_set():
            try:
                for future in futures.as_completed(list(left), 1.0):
                    self._ledger.settle(left.pop(future))
            except TimeoutError:
                pass

    def by_looking(self, entries: list[Entry]) -> None:
        for entry in entries:
            while not entry.future.done() and not self._scene.is_over.is_set():
                time.sleep(0.002)
            if entry.future.done():
                self._ledger.settle(entry)

    def by_callback(self, entries: list[Entry]) -> None:
        for entry in entries:
            manners = self._random.choice(_MANNERS)
            pause = self._random.uniform(0, 0.3)
            entry.future.add_done_callback(self._callback(entry, manners, pause))

    def _callback(self, entry: Entry, manners: str, pause: float) -> Callable[[Any], None]:
        def call(_future: Any) -> None:
            self._ledger.settle(entry)
            if manners == "blocks":
                time.sleep(pause)
            elif manners == "raises":
                raise ValueError("a callback without manners")
            elif manners == "submits":
                # Of its own: this is another thread.
                self._scene.submit(random.Random(entry.number), entry.pool)

        return call

    def and_meddle(self, entries: list[Entry]) -> None:
        for entry in entries:
            deed = self._random.choice(("cancel", "kill", "kill softly"))
            entry.allowed |= _ENDS[deed]
            if deed == "kill softly" and entry.job.ends >= {kinds.LATE, kinds.SILENT}:
                # It may hang in half a message; what is raised in it then goes behind that.
                entry.allowed.add(kinds.BROKE)
            time.sleep(self._random.choice((0.0, 0.0, 0.01, 0.05)))
            if deed == "cancel":
                entry.future.cancel()
            elif deed == "kill":
                entry.future.kill()
            else:
                entry.future.kill(grace=self._random.uniform(0.05, 0.5))
        self.in_result(entries)

    def not_at_all(self, _entries: list[Entry]) -> None:
        """Who comes last will look what became of them."""

    # ------------------------------------------------------------------ signals

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """A signal handler of the main thread's, if this is its caller."""
        if self._handles or self._scene.is_over.is_set():
            return
        if self._may_be_interrupted and self._random.random() < 0.5:
            raise Interrupted
        self._handles = True
        try:
            label = self._random.choice(list(self._scene.pools))
            entry = self._scene.submit(self._random, label)
            if entry is not None:
                try:
                    entry.future.exception(0.3)
                except (TimeoutError, futures.CancelledError):
                    pass
        finally:
            self._handles = False


SIGNAL = signal.SIGUSR1
"""What the main thread's caller handles."""

WAYS: dict[Callable[[Caller, list[Entry]], None], int] = {
    Caller.in_result: 10,
    Caller.impatiently: 4,
    Caller.all_at_once: 3,
    Caller.as_they_come: 3,
    Caller.by_looking: 2,
    Caller.by_callback: 5,
    Caller.and_meddle: 3,
    Caller.not_at_all: 2,
}
_UNTIL = (futures.ALL_COMPLETED, futures.FIRST_COMPLETED, futures.FIRST_EXCEPTION)
_MANNERS = ("behaves", "blocks", "raises", "submits")
_ENDS = {
    "cancel": {kinds.CANCELLED},
    "kill": {kinds.CANCELLED, kinds.DIED},
    "kill softly": {kinds.CANCELLED, kinds.DIED, kinds.SOFT},
}
