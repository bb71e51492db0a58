"""Time and threads of a simulated machine: one of them runs, in an order that a seed decides.

A simulated thread is a real one that holds the only baton. It hands it on where it blocks, and may
lose it at any *step*: each system call of it, and each look at the clock. Time passes when nobody
can run: it jumps to what is due next. So an idle hour takes as long as what happens in it, and the
same seed does the same again, to the microsecond.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

STEP = 1e-6
"""Seconds that a step takes."""
STORY_LINES = 300
MOST_TURNS = 3_000
"""Turns of one thread in a second of simulated time that are no busy loop, whatever happens."""
TURNS_PER_EVENT = 30
"""… and so many more for each thing that has happened in it."""

_START = 1_000.0


class Violation(AssertionError):
    """A promise is broken."""


class Over(BaseException):
    """Unwinds a thread of a simulation that has ended."""


class SimThread:
    """A thread of the machine's.

    Args:
        machine: Where it runs.
        run: What it does.
        name: Its name.
    """

    def __init__(self, machine: Machine, run: Callable[[], object], name: str) -> None:
        self.name = name
        self.is_over = False
        self.is_started = False
        self.is_waiting = False
        self.was_woken = False
        self.waits = 0
        self.joiners: list[SimThread] = []
        self.baton = threading.Lock()
        self.baton.acquire()
        self._machine = machine
        self._run = run
        self.real = threading.Thread(target=self._live, name=f"simulated {name}", daemon=True)

    def _live(self) -> None:
        self.baton.acquire()
        try:
            if not self._machine.is_over:
                self._run()
        except Over:
            pass
        except BaseException as error:
            self._machine.blame(error)
        # Let go of now: once another thread runs, it would be at any time.
        del self._run
        self._machine.leave(self)


class Machine:
    """What there is beside processes and descriptors, which are the kernel's.

    Args:
        seed: Decides everything.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.random = self.rng.random
        self.now = _START
        self.is_over = False
        self.error: BaseException | None = None
        self.in_event = False
        self.switchiness = 0.2
        """How likely a thread is to lose the baton at a step at which another could run."""
        self.stalls = 0.0
        """How likely a thread is to stop for a while at a step."""
        self.handled = 0
        """Things that have happened, without the steps of threads."""
        self.story: deque[tuple[float, str, tuple[Any, ...]]] = deque(maxlen=STORY_LINES)
        self._hash = hashlib.blake2b(digest_size=12)
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._ready: list[SimThread] = []
        self._stopped_until = 0.0
        self._stalls: deque[tuple[float, float]] = deque(maxlen=1000)
        self.threads: list[SimThread] = []
        self.running: dict[SimThread, Any] = {}
        """What a running thread is to those who ask for the current one."""
        self._idents = itertools.count(1)
        self._main = SimThread(self, lambda: None, "main")
        self._main.is_started = True
        self.current = self._main
        self._second = 0
        self._turns: dict[str, int] = {}
        self._handled_before = 0

    # ------------------------------------------------------------------ what happened

    def note(self, who: str, *words: Any) -> None:
        """Add a line to the story, and to what two runs of a seed must have in common."""
        self.story.append((self.now, who, words))
        self.mark(who, *words)

    def mark(self, who: str, *words: Any) -> None:
        """The same of what happens all the time: not in the story."""
        self._hash.update(f"{self.now:.6f} {who} {words}\n".encode())

    @property
    def fingerprint(self) -> str:
        """The same for two runs in which the same happened at the same times."""
        return self._hash.hexdigest()

    def tell(self) -> str:
        """The end of the story, for people."""
        return "\n".join(
            f"{at - _START:14.6f}  {who:<14} {' '.join(map(str, words))}"
            for at, who, words in self.story
        )

    def blame(self, error: BaseException) -> None:
        """End the simulation: this has gone wrong."""
        if self.error is None and not isinstance(error, Over):
            self.error = error
            self.note("WRONG", f"{type(error).__name__}: {error}")
        self.is_over = True

    def fail(self, what: str) -> None:
        """The same in the midst of a thread, which ends."""
        self.blame(Violation(what))
        raise Over

    # ------------------------------------------------------------------ time

    def at(self, when: float, call: Callable[[], object]) -> None:
        """Have something happen at a time."""
        heapq.heappush(self._due, (when, next(self._order), call))

    def after(self, seconds: float, call: Callable[[], object]) -> None:
        """The same, in so many seconds."""
        self.at(self.now + seconds, call)

    def stop_host(self, seconds: float) -> None:
        """Let no thread run for a while: the host is stopped; its workers are not."""
        self.note("host", "is stopped for", round(seconds, 3))
        self._stopped_until = max(self._stopped_until, self.now + seconds)
        self._stalls.append((self._stopped_until, seconds))
        self.at(self._stopped_until, lambda: None)

    def monotonic(self) -> float:
        """The clock."""
        self.step()
        return self.now

    def stalled_since(self, since: float) -> float:
        """For how many seconds threads, or all of them, were stopped since then, all in all."""
        return sum(seconds for until, seconds in self._stalls if until >= since)

    def sleep(self, seconds: float) -> None:
        """The running thread does nothing for a while."""
        self.block(self.now + seconds)

    def _happen(self) -> None:
        at, _, call = heapq.heappop(self._due)
        if at > self.now:
            self.now = at
        self.in_event = True
        try:
            call()
        except BaseException as error:
            self.blame(error)
            raise Over from None
        finally:
            self.in_event = False

    # ------------------------------------------------------------------ threads

    def step(self) -> None:
        """The running thread makes a system call, before which anything may happen."""
        if self.in_event or self.is_over:
            return  # At the end threads unwind where they block: there, it can be raised.
        self.now += STEP
        while self._due and self._due[0][0] <= self.now:
            self._happen()
        if self._ready or self._stopped_until > self.now:
            if self.random() < self.switchiness:
                self._ready.append(self.current)
                self._hand_on()
        elif self.stalls and self.random() < self.stalls:
            seconds = 10.0 ** self.rng.uniform(-4.0, 0.5)
            self._stalls.append((self.now + seconds, seconds))
            self.note(self.current.name, "stalls for", round(seconds, 4))
            self.block(self.now + seconds)

    def turn(self, who: str) -> None:
        """Somebody looks whether there is anything to do; too often, if there is not."""
        if self.is_over:
            raise Over
        if int(self.now) != self._second:
            self._second = int(self.now)
            self._turns.clear()
            self._handled_before = self.handled
        turns = self._turns[who] = self._turns.get(who, 0) + 1
        if turns > MOST_TURNS + TURNS_PER_EVENT * (self.handled - self._handled_before):
            self.fail(f"{who} has looked {turns} times within a second: a busy loop")

    def block(self, until: float | None) -> bool:
        """The running thread waits to be woken; False if the time has come first."""
        if self.is_over:
            raise Over
        me = self.current
        me.is_waiting, me.was_woken = True, False
        me.waits += 1
        if until is not None:
            number = me.waits
            self.at(until, lambda: self._time_out(me, number))
        self._hand_on()
        return me.was_woken

    def wake(self, thread: SimThread) -> None:
        """End its waiting."""
        if thread.is_waiting:
            thread.is_waiting, thread.was_woken = False, True
            self._ready.append(thread)

    def _time_out(self, thread: SimThread, number: int) -> None:
        if thread.is_waiting and thread.waits == number:
            thread.is_waiting = False
            self._ready.append(thread)

    def new_ident(self) -> int:
        """A number that no other thread has."""
        return next(self._idents)

    def start(self, run: Callable[[], object], name: str) -> SimThread:
        """Start a thread."""
        thread = SimThread(self, run, name)
        self.begin(thread)
        return thread

    def begin(self, thread: SimThread) -> None:
        """Let a thread run that has been made."""
        if self.is_over:
            raise Over
        self.threads.append(thread)
        thread.is_started = True
        thread.real.start()
        self._ready.append(thread)

    def join(self, thread: SimThread, timeout: float | None = None) -> bool:
        """Wait for a thread's end."""
        until = None if timeout is None else self.now + timeout
        while not thread.is_over:
            thread.joiners.append(self.current)
            if not self.block(until):
                break
        return thread.is_over

    def leave(self, thread: SimThread) -> None:
        """The running thread ends."""
        thread.is_over = True
        self.threads.remove(thread)
        for joiner in thread.joiners:
            self.wake(joiner)
        try:
            following = None if self.is_over else self._next()
        except Over:
            following = None
        if following is None:
            # Everybody unwinds, one after the other.
            following = self.threads[0] if self.threads else self._main
        self.current = following
        following.baton.release()

    def _next(self) -> SimThread:
        ready = self._ready
        while True:
            if ready and self._stopped_until <= self.now:
                return ready.pop(self.rng.randrange(len(ready)) if len(ready) > 1 else 0)
            if not self._due:
                self.fail("everybody waits for ever: " + ", ".join(t.name for t in self.threads))
            self._happen()

    def _hand_on(self) -> None:
        me = self.current
        following = self._next()
        if following is not me:
            self.current = following
            following.baton.release()
            me.baton.acquire()
        if self.is_over:
            raise Over

    def run(self, main: Callable[[], object]) -> None:
        """Run a simulation to its end on the calling thread.

        Raises:
            Violation: A promise is broken. Or whatever else went wrong.
        """
        try:
            main()
        except Over:
            pass
        except BaseException as error:
            self.blame(error)
        if self.error is None and self.threads:
            left = ", ".join(thread.name for thread in self.threads)
            self.blame(Violation(f"threads are left: {left}"))
        self.is_over = True
        if self.threads:
            self.current = self.threads[0]
            self.current.baton.release()
            self._main.baton.acquire()
        self._due.clear()
        if self.error is not None:
            raise self.error
