"""Stand-ins for ``threading`` and ``queue``, whose waiting takes no time."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tests.simulation.machine import Machine, SimThread


class _Waiting:
    """What threads wait for."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._sleepers: list[SimThread] = []

    def _wait(self, until: float | None) -> bool:
        machine = self._machine
        me = machine.current
        self._sleepers.append(me)
        woken = machine.block(until)
        if me in self._sleepers:
            self._sleepers.remove(me)
        return woken

    def _wake(self) -> None:
        sleepers, self._sleepers = self._sleepers, []
        for sleeper in sleepers:
            self._machine.wake(sleeper)

    def _until(self, timeout: float | None) -> float | None:
        return None if timeout is None or timeout < 0 else self._machine.now + timeout


class Lock(_Waiting):
    """``threading.Lock``; with an owner, ``RLock``."""

    reentrant = False

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self._depth = 0
        self._owner: SimThread | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        machine = self._machine
        machine.step()
        until = self._until(timeout) if blocking else machine.now
        while self._depth and not (self.reentrant and self._owner is machine.current):
            if until is not None and until <= machine.now:
                return False
            self._wait(until)
        self._depth += 1
        self._owner = machine.current
        return True

    def release(self) -> None:
        assert self._depth, "a lock is released that nobody has"
        self._depth -= 1
        self._wake()
        if not self._machine.is_over:
            self._machine.step()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Condition(Lock):
    """The part of ``threading.Condition`` that is used: its lock."""

    reentrant = True


class Event(_Waiting):
    """``threading.Event``."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        self._wake()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        self._machine.step()
        until = self._until(timeout)
        while not self._is_set and (until is None or until > self._machine.now):
            self._wait(until)
        return self._is_set


class SimpleQueue(_Waiting):
    """``queue.SimpleQueue``."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self._items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        self._items.append(item)
        self._wake()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        machine = self._machine
        machine.step()
        until = self._until(timeout) if block else machine.now
        while not self._items:
            if until is not None and until <= machine.now:
                raise queue.Empty
            self._wait(until)
        return self._items.popleft()

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def empty(self) -> bool:
        return not self._items

    def qsize(self) -> int:
        return len(self._items)


class Thread:
    """``threading.Thread``."""

    def __init__(
        self,
        machine: Machine,
        target: Callable[[], object],
        name: str,
        daemon: bool = True,
    ) -> None:
        self._machine = machine
        self._sim = SimThread(machine, self._run, name)
        self._target = target
        self.name = name
        self.ident: int | None = None

    def _run(self) -> None:
        self._machine.running[self._sim] = self
        try:
            self._target()
        finally:
            self._machine.running.pop(self._sim, None)
            del self._target

    def start(self) -> None:
        self.ident = self._machine.new_ident()
        self._machine.begin(self._sim)

    def is_alive(self) -> bool:
        return self._sim.is_started and not self._sim.is_over

    def join(self, timeout: float | None = None) -> None:
        self._machine.join(self._sim, timeout)


def threading_of(machine: Machine) -> SimpleNamespace:
    """What modules see as ``threading``."""

    def current() -> Any:
        return machine.running.get(machine.current, machine.current)

    class OwnThread(Thread):
        def __init__(self, target: Callable[[], object], name: str, daemon: bool = True) -> None:
            super().__init__(machine, target, name, daemon)

    return SimpleNamespace(
        Lock=lambda: Lock(machine),
        Condition=lambda: Condition(machine),
        RLock=lambda: Condition(machine),
        Event=lambda: Event(machine),
        Thread=OwnThread,
        current_thread=current,
        get_ident=lambda: getattr(current(), "ident", 0),
        local=threading.local,
        TIMEOUT_MAX=threading.TIMEOUT_MAX,
    )


def queue_of(machine: Machine) -> SimpleNamespace:
    """What modules see as ``queue``."""
    return SimpleNamespace(SimpleQueue=lambda: SimpleQueue(machine), Empty=queue.Empty)
