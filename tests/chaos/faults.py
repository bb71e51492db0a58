"""What is done to hosts, workers and their servers, each with what may become of tasks under it.

What a task does to its own worker is a kind of task: see ``kinds``. A fault of this table strikes
one that did nothing, and only that one may show it: a task fails only if the worker of which its
error tells is among the victims, in one of the ways that are named here.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos import kinds
from tests.chaos.callers import SIGNAL, Scene
from tests.helpers import processes
from warmpool import PoolClosed, TemplateFailed, WarmPool, WarmpoolError

MOST_DESCRIPTORS = 400
"""A host's limit: few enough to be used up in no time."""

NOTHING: frozenset[str] = frozenset()
DEATH = frozenset({kinds.DIED})
# A stopped worker whose server dies is hung up by the kernel: its group is an orphan by then.
STOP = frozenset({kinds.SILENT, kinds.LATE, kinds.DIED})


_fillers: list[int] = []


def _drop_fillers() -> None:
    while _fillers:
        os.close(_fillers.pop())


# A copy of the host, be it a zygote, has them too, and would never have a descriptor again.
os.register_at_fork(after_in_child=_drop_fillers)


class Deeds:
    """What it takes to commit them. *Threads:* one, but for what is left for later.

    Args:
        scene: Where.
        rng: Decides whom they strike.
    """

    def __init__(self, scene: Scene, rng: random.Random) -> None:
        self.scene = scene
        self.rng = rng
        self.reloads: list[threading.Thread] = []
        self._later: list[tuple[float, int | None, int, frozenset[str]]] = []
        self._copies: dict[int, float] = {}
        self._ends = NOTHING

    def commit(self, fault: Fault) -> None:
        """Commit one of them."""
        self._ends = fault.ends
        fault.commit(self)

    # ------------------------------------------------------------------ whom

    def some_pool(self) -> tuple[str, WarmPool]:
        label = self.rng.choice(list(self.scene.pools))
        return label, self.scene.pools[label][1]

    def some_worker(self, *, for_good: bool = False) -> int | None:
        """A worker's pid; one that is found if it is stopped, if that matters."""
        label, pool = self.some_pool()
        if for_good and not self.scene.pools[label][0].finds_the_stopped:
            return None
        pids = sorted(worker.pid for worker in pool.stats().details if worker.pid)
        return self.rng.choice(pids) if pids else None

    def some_server(self) -> int | None:
        """A fork server, zygote or template; a worker, by chance, that has just been spawned."""
        workers = {
            worker.pid for _, pool in self.scene.pools.values() for worker in pool.stats().details
        }
        others = [
            pid
            for pid in processes.children(os.getpid())
            if pid not in workers
            and pid not in self._copies
            and "resource_tracker" not in processes.command_line(pid)
        ]
        return self.rng.choice(sorted(others)) if others else None

    def strike(self, pid: int | None, number: int) -> bool:
        """Send a signal to one of ours, which is noted before it can have an effect."""
        if pid is None:
            return False
        try:
            watch = os.pidfd_open(pid)
        except OSError:
            return False
        try:
            if processes.session(pid) != os.getsid(0):
                return False  # Its number is another's by now.
            self.scene.ledger.victims.add(pid, self._ends)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(watch, number)
        finally:
            os.close(watch)
        return True

    # ------------------------------------------------------------------ later

    def strike_later(self, longest: float, pid: int | None, number: int) -> None:
        """The same within so many seconds, or at the end."""
        due = time.monotonic() + self.rng.uniform(0, longest)
        self._later.append((due, pid, number, self._ends))

    def go_on(self, *, at_the_end: bool = False) -> None:
        """Do what is due."""
        now = time.monotonic()
        due = [item for item in self._later if at_the_end or item[0] <= now]
        self._later = [item for item in self._later if item not in due]
        for _, pid, number, self._ends in due:
            self.strike(pid, number)
        self._look_after_copies(wait=at_the_end)

    # ------------------------------------------------------------------ deeds

    def kill_worker(self, number: int = signal.SIGKILL) -> None:
        self.strike(self.some_worker(), number)

    def stop_worker(self) -> None:
        pid = self.some_worker()
        if self.strike(pid, signal.SIGSTOP):
            self.strike_later(2, pid, signal.SIGCONT)

    def stop_worker_for_good(self) -> None:
        self.strike(self.some_worker(for_good=True), signal.SIGSTOP)

    def stop_and_kill_worker(self) -> None:
        pid = self.some_worker()
        if self.strike(pid, signal.SIGSTOP):
            self.strike_later(1, pid, signal.SIGKILL)

    def kill_server(self) -> None:
        self.strike(self.some_server(), signal.SIGKILL)

    def stop_server(self) -> None:
        pid = self.some_server()
        if self.strike(pid, signal.SIGSTOP):
            self.strike_later(self.rng.choice((0.1, 1, 3, 30)), pid, signal.SIGCONT)

    def stop_and_kill_server(self) -> None:
        pid = self.some_server()
        if self.strike(pid, signal.SIGSTOP):
            self.strike_later(2, pid, signal.SIGKILL)

    def massacre(self) -> None:
        """Kill all workers of a pool, and maybe a server."""
        _, pool = self.some_pool()
        for worker in pool.stats().details:
            self.strike(worker.pid, signal.SIGKILL)
        if self.rng.random() < 0.5:
            self.kill_server()

    def exhaust_descriptors(self) -> None:
        """Use up all of the host's, for a while."""
        with contextlib.suppress(OSError):
            while True:
                _fillers.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        time.sleep(self.rng.choice((0.01, 0.1, 0.5)))
        _drop_fillers()

    def fork_host(self) -> None:
        """Have a copy of the host, which finds the pools closed, and lives for a moment."""
        host, seconds = os.getpid(), self.rng.uniform(0, 2)
        pool = self.scene.pools[self.rng.choice(list(self.scene.pools))][1]
        pid = os.fork()
        if pid == 0:
            _live_as_a_copy(host, pool, seconds)
        self._copies[pid] = time.monotonic() + seconds + kinds.AMPLE

    def _look_after_copies(self, *, wait: bool) -> None:
        for pid, until in list(self._copies.items()):
            while True:
                try:
                    ended, status = os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    ended, status = pid, 0  # Somebody has taken its status: we have, maybe.
                if ended:
                    del self._copies[pid]
                    if status:
                        self.scene.ledger.complain(f"a copy of the host has ended with {status:#x}")
                elif time.monotonic() > until:
                    del self._copies[pid]
                    self.scene.ledger.complain(f"a copy of the host hangs: {pid}")
                    os.kill(pid, signal.SIGKILL)
                elif wait:
                    time.sleep(0.01)
                    continue
                break

    def take_statuses(self) -> None:
        """Collect whoever has died, as a host may that starts processes by itself."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    def interrupt_main(self) -> None:
        os.kill(os.getpid(), SIGNAL)

    def interrupt_main_often(self) -> None:
        for _ in range(50):
            os.kill(os.getpid(), SIGNAL)
            time.sleep(self.rng.uniform(0, 0.002))

    def hold_gil(self) -> None:
        """Let no other thread of the host run for a moment."""
        gc.collect()
        sum(range(self.rng.choice((10**5, 10**6, 10**7))))

    def reload(self) -> None:
        label, pool = self.some_pool()
        if self.scene.pools[label][0].method != "template":
            return
        thread = threading.Thread(target=self._reload, args=(label, pool), name=f"reload {label}")
        thread.daemon = True
        self.reloads = [other for other in self.reloads if other.is_alive()]
        self.reloads.append(thread)
        thread.start()

    def _reload(self, label: str, pool: WarmPool) -> None:
        try:
            pool.reload()
        except (TemplateFailed, PoolClosed, OSError):
            pass  # Its new template was struck, or no descriptor was left.
        except BaseException as error:
            self.scene.ledger.complain(f"reload of {label}: {error!r}")


def _live_as_a_copy(host: int, pool: WarmPool, seconds: float) -> None:
    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(40)
        try:
            pool.submit(int)
        except WarmpoolError:
            status = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end and os.getppid() == host:
            time.sleep(0.01)
    finally:
        os._exit(status)


@dataclass(frozen=True)
class Fault:
    """One thing that is done.

    Attributes:
        commit: How.
        weight: How often, beside the others.
        ends: What may become of a task whose worker it strikes; of others, nothing.
    """

    commit: Callable[[Deeds], None]
    weight: int
    ends: frozenset[str] = NOTHING

    @property
    def name(self) -> str:
        return self.commit.__name__


def _by(number: int) -> Callable[[Deeds], None]:
    def commit(deeds: Deeds) -> None:
        deeds.kill_worker(number)

    commit.__name__ = f"send_{signal.Signals(number).name.lower()}"
    return commit


FAULTS = [
    Fault(_by(signal.SIGKILL), 10, DEATH),
    Fault(_by(signal.SIGSEGV), 4, DEATH),
    Fault(_by(signal.SIGTERM), 2, DEATH),
    Fault(_by(signal.SIGABRT), 2, DEATH),
    Fault(Deeds.stop_worker, 6, STOP),
    Fault(Deeds.stop_worker_for_good, 1, STOP),
    Fault(Deeds.stop_and_kill_worker, 3, STOP | DEATH),
    Fault(Deeds.massacre, 2, DEATH),
    Fault(Deeds.kill_server, 5, DEATH),
    Fault(Deeds.stop_server, 3, STOP),
    Fault(Deeds.stop_and_kill_server, 2, STOP | DEATH),
    Fault(Deeds.reload, 4),
    Fault(Deeds.exhaust_descriptors, 3),
    Fault(Deeds.fork_host, 3),
    Fault(Deeds.take_statuses, 2),
    Fault(Deeds.interrupt_main, 8),
    Fault(Deeds.interrupt_main_often, 2),
    Fault(Deeds.hold_gil, 3),
]


def limit_descriptors() -> None:
    """Have few of them, so that using them up takes no time."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_DESCRIPTORS, hard))
