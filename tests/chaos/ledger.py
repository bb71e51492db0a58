"""Every task of a phase: what may become of it, and what did."""

from __future__ import annotations

import faulthandler
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import kinds
from tests.chaos.behind import Behind, Lost, says_so
from tests.chaos.kinds import Job
from tests.chaos.tasks import Known
from warmpool import PoolStats, TaskFuture, WarmPool, WorkerError

SETTLES_WITHIN = 60.0
"""Seconds that a future may be pending once nothing is done to its pool any more. Nothing here
takes a tenth of it."""


@dataclass
class Entry:
    """A task that was submitted.

    Attributes:
        number: Its own, among all of the host's.
        job: What it is.
        pool: The label of its pool.
        future: Its future.
        allowed: What else may become of it, since somebody has meddled.
        may_lie: Whether it may be laid out for a worker that has another task.
    """

    number: int
    job: Job
    pool: str
    future: TaskFuture[object]
    allowed: set[str] = field(default_factory=set)
    may_lie: bool = False


@dataclass
class Verdict:
    """What became of a task, and how often it may have been run."""

    ending: str
    least: int
    most: int


class Victims:
    """Workers that something was done to from outside. *Threads:* any."""

    def __init__(self) -> None:
        self._ends: dict[int, frozenset[str]] = {}

    def add(self, pid: int, ends: frozenset[str]) -> None:
        """Note it before it is done: the task's end may be seen before the next line is run."""
        self._ends[pid] = self._ends.get(pid, frozenset()) | ends

    def ends(self, pid: int | None) -> frozenset[str]:
        """What may become of a task of this worker."""
        return self._ends.get(pid, frozenset()) if pid is not None else frozenset()

    def __contains__(self, pid: int) -> bool:
        return pid in self._ends


class Ledger:
    """The tasks of one phase. *Threads:* any.

    Args:
        runs: The file in which workers note each run.
        victims: Workers that were disturbed.
    """

    def __init__(self, runs: Path, victims: Victims) -> None:
        self.runs = runs
        self.victims = victims
        self.problems: list[str] = []
        self.counts: dict[str, Counter[str]] = {}
        self._lock = threading.Lock()
        self._open: dict[int, Entry] = {}
        self._verdicts: dict[int, Verdict] = {}
        self._closing: set[str] = set()
        self._behind = Behind()
        runs.touch()

    # ------------------------------------------------------------------ as it goes

    def enter(self, entry: Entry) -> None:
        """A task was submitted."""
        with self._lock:
            self._open[entry.number] = entry

    def complain(self, what: str) -> None:
        """Something is wrong."""
        with self._lock:
            self.problems.append(what)

    def closing(self, pool: str) -> None:
        """From here on, tasks of this pool may fail for that."""
        self._closing.add(pool)

    def may_be_closed(self, pool: str) -> bool:
        """Whether somebody has said so."""
        return pool in self._closing

    def settle(self, entry: Entry) -> None:
        """Judge a task whose future is done; once, whoever comes first."""
        with self._lock:
            if self._open.pop(entry.number, None) is None:
                return
        ending, error = _ending(entry)
        wrong = None
        if ending not in self._allowed(entry, error):
            pid = entry.future.info.pid
            wrong = (
                f"task {entry.number} ({entry.job.kind}, {entry.job.options}) of {entry.pool}, "
                f"worker {pid}: {ending}, not {sorted(entry.job.ends | entry.allowed)}: {error!r}\n"
                + "\n".join(getattr(error, "story", ()))
            )
        counted = ending
        if wrong is not None:
            if self._may_be_behind(entry, error):
                counted = kinds.BEHIND
            else:
                self.complain(wrong)
        verdict = _runs(entry, ending, error)
        with self._lock:
            if isinstance(error, WorkerError):
                lost = Lost(entry.number, entry.future.info.started, error, wrong)
                self._behind.add(entry.pool, lost)
            self._verdicts[entry.number] = verdict
            self.counts.setdefault(entry.pool, Counter())[counted] += 1

    def _may_be_behind(self, entry: Entry, error: BaseException | None) -> bool:
        return (
            entry.may_lie
            and not entry.job.may_run_again
            and isinstance(error, WorkerError)
            and says_so(error)
        )

    def _allowed(self, entry: Entry, error: BaseException | None) -> set[str]:
        allowed = {*entry.job.ends, *entry.allowed}
        pid = getattr(error, "pid", None)
        allowed |= self.victims.ends(pid)
        if entry.pool in self._closing:
            # What runs at the deadline is killed; what waits fails, or is cancelled.
            allowed |= {kinds.CLOSED, kinds.DIED, kinds.CANCELLED}
        return allowed

    # ------------------------------------------------------------------ at the end

    def settle_all(self) -> None:
        """Wait for all that is open, and complain of what stays so."""
        give_up_at = time.monotonic() + SETTLES_WITHIN
        hangs = False
        for entry in self._all_open():
            while not entry.future.done() and time.monotonic() < give_up_at:
                try:
                    entry.future.exception(max(0.0, give_up_at - time.monotonic()))
                except (TimeoutError, CancelledError):
                    pass
            if entry.future.done():
                self.settle(entry)
            else:
                if not hangs:
                    hangs = True
                    faulthandler.dump_traceback()
                self.complain(
                    f"UNSETTLED: task {entry.number} ({entry.job.kind}) of {entry.pool}: "
                    f"{entry.future!r}, {entry.future.info}"
                )

    def _all_open(self) -> Iterator[Entry]:
        # Callbacks submit more, when the tasks that are waited for are done.
        seen: set[int] = set()
        while left := [entry for number, entry in list(self._open.items()) if number not in seen]:
            seen.update(entry.number for entry in left)
            yield from left

    def look_at_claims(self) -> None:
        """Complain of tasks that are said to have gone with another one's worker, and have not."""
        for wrong in self._behind.unfounded(self._noted()):
            self.complain(wrong)

    def count_runs(self) -> None:
        """Compare how often each task was run with how often it may have been."""
        noted = self._noted()
        for number, verdict in self._verdicts.items():
            if not verdict.least <= noted[number] <= verdict.most:
                self.complain(
                    f"task {number}, {verdict.ending}, was run {noted[number]} times, not "
                    f"{verdict.least} to {verdict.most}"
                )

    def _noted(self) -> Counter[int]:
        return Counter(abs(int(line)) for line in self.runs.read_text().split())

    @property
    def settled(self) -> int:
        """How many tasks were."""
        return len(self._verdicts)


def check_books(pool: WarmPool, label: str, ledger: Ledger, give_up_at: float) -> None:
    """Compare a pool's own figures with each other, once it has nothing to do."""
    while not _is_even(stats := pool.stats()):
        if time.monotonic() >= give_up_at:
            ledger.complain(f"{label} has lost count: {stats}")
            return
        time.sleep(0.01)


def _is_even(stats: PoolStats) -> bool:
    settled = sum(stats.tasks_settled.values())
    return (stats.queued, stats.running, settled) == (0, 0, stats.tasks_submitted)


def _ending(entry: Entry) -> tuple[str, BaseException | None]:
    try:
        result = entry.future.result(0.001)
    except CancelledError:
        return kinds.CANCELLED, None
    except Known as error:
        right = error.number == entry.number
        return (kinds.RAISED if right else f"WRONG: raised {error!r}"), error
    except BaseException as error:
        return type(error).__name__, error
    if result != entry.job.result:
        return f"WRONG: {str(result)[:80]}, not {str(entry.job.result)[:80]}", None
    return kinds.RIGHT, None


def _runs(entry: Entry, ending: str, error: BaseException | None) -> Verdict:
    most = 1 + entry.job.options.get("retries", 0)
    least = 0
    if ending in (kinds.RIGHT, kinds.RAISED, kinds.LEFT):
        # Not SoftTimeout, which may come before the note.
        least = 1
    elif not entry.job.may_run_again and _never_started(ending, error):
        most = 0
    return Verdict(ending, least, most)


def _never_started(ending: str, error: BaseException | None) -> bool:
    if ending in (kinds.CANCELLED, kinds.WAITED, kinds.BROKEN):
        return True
    return isinstance(error, WorkerError) and not error.started
