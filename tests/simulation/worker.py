"""A simulated worker: what the supervisor gets to see of one, and whatever may go wrong with it.

It reads and writes real frames, in pieces if the channel has no room, and answers signals. It does
one thing after the other, as a worker's main thread does; heartbeats are counted beside that.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation import jobs
from tests.simulation.kernel import Process
from tests.simulation.recorder import Recorder
from tests.simulation.streams import Stream, Tray
from tests.simulation.weather import (
    BOOT_FATES,
    DEATH_FATES,
    IDLE_FATES,
    INIT_FATES,
    STOP_FATES,
    TASK_FATES,
)
from warmpool import payload, wire
from warmpool.errors import SoftTimeout
from warmpool.recorder import INTERRUPT_SIGNAL, STACK_SIGNAL

if TYPE_CHECKING:
    from tests.simulation.world import World

LATENCY = 50e-6
"""Seconds that it takes a worker to run when there is something to do."""
MOMENT = 3e-3
"""Seconds that there may be between a worker's letting go of its channel and its death."""
GARBAGE = b"Traceback (most recent call last):\n"
_STACK = 'Current thread 0x0001 (most recent call first):\n  File "/a.py", line 1 in f\n'
_STACK_END = '  File "/a.py", line 9 in <module>\n'
SMALL, LARGE = 1 << 20, 1 << 32
"""Bytes that a worker uses, and one that grows."""


class Worker:
    """One process.

    Args:
        world: Where.
        number: The pool's number of it.
        stream: Its channel.
        tray: Its tray, if it has one.
        recorder: Shared with the host.
        process: Just born.
    """

    def __init__(
        self,
        world: World,
        number: int,
        stream: Stream,
        tray: Tray | None,
        recorder: Recorder,
        process: Process,
    ) -> None:
        self.number = number
        self.recorder = recorder
        self.process = process
        self.memory = SMALL
        self.ended: Callable[[str], object] = lambda fate: None
        """Called at its death, with how that goes on."""
        self._world = world
        self._machine = world.machine
        self._rng = world.machine.rng
        self._stream = stream
        self._tray = tray
        self._was_in_tray = False
        self._reader = wire.Reader(wire.TO_WORKER)
        self._messages: deque[wire.Message] = deque()
        self._outgoing = bytearray()
        self._sent: Callable[[], object] | None = None
        self._take: Callable[[int, int, Any], None] | None = None
        self._reads_at_once = 1 << 16
        self._is_reading = False
        self._is_frozen = False
        self._is_dying = False
        self._has_let_go = False
        self._held_back: list[Callable[[], object]] = []
        self.frozen_since: float | None = None
        self.waits_since: float | None = None
        """Since when it has had nothing to do but to wait for a message."""
        self._run: tuple[int, Any] | None = None
        self._runs = 0
        process.die, process.heed = self._killed, self._heed
        process.childless = stream.hang_up
        stream.heard, stream.drained = self._heard, self._drained
        if tray is not None:
            tray.laid_out = self._heard
        self._boot()

    def _note(self, *words: Any) -> None:
        self._machine.note(f"worker {self.number}", *words)

    # ------------------------------------------------------------------ time

    def _later(self, seconds: float, call: Callable[[], object]) -> None:
        def happen() -> None:
            if not self.process.is_alive or self._is_dying:
                return  # After SIGKILL it runs no more, though it may take a while to go.
            if self._is_frozen:
                self._held_back.append(call)
            else:
                self._machine.handled += 1
                call()

        self._machine.after(seconds, happen)

    def _fate(self, share: float, fates: tuple[str, ...]) -> str:
        fate = self._world.weather.fate(self._rng, share, fates)
        if fate != "well":
            self._note("fate:", fate)
            self._world.faults += 1
        return fate

    def _freeze(self) -> None:
        self._is_frozen = True
        self.frozen_since = self._machine.now
        self.recorder.freeze()
        self._world.frozen.add(self.number)

    def _thaw(self) -> None:
        self._is_frozen = False
        self.frozen_since = None
        if self.waits_since is not None:
            self.waits_since = self._machine.now
        self.recorder.thaw()
        held_back, self._held_back = self._held_back, []
        for call in held_back:
            self._later(LATENCY, call)

    # ------------------------------------------------------------------ the channel

    def _heard(self) -> None:
        if self._take is not None and not self._is_reading:
            self._is_reading = True
            self._later(LATENCY, self._read)

    def _read(self) -> None:
        # As endpoint.Channel.receive() does.
        self._is_reading = False
        if self._was_in_tray and self._take_from_tray():
            return
        data = self._stream.read(self._reads_at_once)
        if data:
            self._messages.extend(self._reader.feed(data))
            if self._reader.broken is not None:
                self._machine.fail(f"a worker is sent what is no message: {self._reader.broken}")
        elif self._stream.host_is_gone:
            self._note("has lost its host")
            self._killed()
            return
        elif self._tray and self._take is not None:
            self._was_in_tray = self._take_from_tray()
            return
        self._next()
        if self._stream.to_worker or self._stream.host_is_gone or self._tray:
            self._heard()

    def _take_from_tray(self) -> bool:
        if not self._tray or self._take is None:
            self._was_in_tray = False
            return False
        self._messages.append((wire.RUN, *self._tray.take()))
        self._next()
        return True

    def _next(self) -> None:
        if self._messages and self._take is not None:
            kind, task, body = self._messages.popleft()
            take, self._take = self._take, None
            self.waits_since = None
            take(kind, task, body)

    def _await(self, take: Callable[[int, int, Any], None]) -> None:
        """Take the next message."""
        self._take = take
        if self._messages:
            self._next()
        else:
            self._heard()

    def _say(self, frame: bytes, sent: Callable[[], object] | None = None) -> None:
        self._outgoing += frame
        self._sent = sent
        self._pump()

    def _pump(self) -> None:
        if self._outgoing:
            written = self._stream.write(self._outgoing)
            del self._outgoing[:written]
        if not self._outgoing and self._sent is not None:
            sent, self._sent = self._sent, None
            sent()

    def _drained(self) -> None:
        if self._outgoing and self.process.is_alive:
            self._later(LATENCY, self._pump)

    @staticmethod
    def _frame(kind: int, task: int = 0, body: bytes = b"") -> bytes:
        return wire.header(kind, task, len(body)) + body

    # ------------------------------------------------------------------ before it is ready

    def _boot(self) -> None:
        fate = self._fate(self._world.weather.boots, BOOT_FATES)
        delay = self._rng.uniform(0.01, 0.1)
        if fate == "is slow":
            delay = self._rng.uniform(0.5, 1.5 * self._world.init_timeout)
        self._later(delay, lambda: self._booted(fate))

    def _booted(self, fate: str) -> None:
        if fate != "has no stack":
            self.recorder.note_stacks_to_be_had()
        if self._is_bad_end(fate):
            return
        self._say(self._frame(wire.HELLO))
        self._await(self._initialize)

    def _is_bad_end(self, fate: str, answer: bytes = b"") -> bool:
        """Whether it goes no further; also what all stages have in common."""
        if fate == "dies":
            self.die(self._rng.choice((1, -signal.SIGSEGV, -signal.SIGKILL)))
        elif fate == "hangs":
            pass
        elif fate == "garbage":
            self._world.liars.add(self.number)
            self._say(GARBAGE)
        elif fate == "closes":
            self._world.liars.add(self.number)
            self._stream.hang_up()
        elif fate == "half a frame":
            frame = answer or self._frame(wire.HELLO)
            self._say(frame[: self._rng.randint(1, len(frame) - 1)])
            if self._rng.random() < 0.7:
                self._later(self._rng.uniform(0.0, 0.01), lambda: self.die(-signal.SIGSEGV))
        else:
            return False
        return True

    def _initialize(self, kind: int, _task: int, _body: Any) -> None:
        if kind == wire.STOP:
            self._leave()
            return
        if kind != wire.INITIALIZE:
            self._machine.fail(f"worker {self.number} is sent kind {kind:#x} before it is ready")
        fate = self._fate(self._world.weather.inits, INIT_FATES)
        delay = self._world.init_seconds * self._rng.uniform(0.5, 1.5)
        if fate == "is slow":
            delay = self._rng.uniform(0.5, 1.5 * self._world.init_timeout)
        self._later(delay, lambda: self._initialized(fate))

    def _initialized(self, fate: str) -> None:
        if self._is_bad_end(fate):
            return
        if fate == "raises":
            error = payload.dump_error(RuntimeError("no database"), payload.dumps)
            self._say(self._frame(wire.INITIALIZER_RAISED, 0, error), lambda: self.die(1))
            return
        self._say(self._frame(wire.READY))
        if fate == "ready and dies":
            self._later(self._rng.uniform(0.0, 0.5), lambda: self.die(-signal.SIGSEGV))
        self._idle()

    # ------------------------------------------------------------------ at work

    def _idle(self) -> None:
        self._reads_at_once = self._world.kernel.part(1 << 16)
        self.waits_since = self._machine.now
        self._await(self._serve)
        share = self._world.weather.idles / 3600.0
        if share:
            wait, runs = self._rng.expovariate(share), self._runs
            if wait < 2 * 3600.0:
                self._later(wait, lambda: self._something_happens(runs))

    def _something_happens(self, runs: int) -> None:
        if self._runs != runs or self._run is not None or self._take != self._serve:
            return
        fate = self._fate(1.0, IDLE_FATES)
        if fate == "grows":
            self.memory = LARGE
            self._world.grown.add(self.number)
        elif fate == "freezes":
            self._freeze()
        elif fate == "says ready again":
            self._world.liars.add(self.number)
            self._say(self._frame(wire.READY))
        elif self._is_bad_end(fate):
            self._take = self.waits_since = None

    def _serve(self, kind: int, task: int, body: Any) -> None:
        if kind == wire.STOP:
            self._leave()
            return
        if kind != wire.RUN:
            self._machine.fail(f"worker {self.number} is sent kind {kind:#x} while it is ready")
        self._runs += 1
        fate = self._fate(self._world.weather.tasks, TASK_FATES)
        if fate == "dies unstarted":
            self.die(-signal.SIGKILL)
            return
        self.recorder.note_started(task)
        function, args, _ = payload.load_task(body)
        work = jobs.parts(function, args)
        for number, _ in work:
            self._world.judge.begins(number, self.number)
        self._run = (task, work)
        seconds = sum(seconds for _, seconds in work)
        self._later(seconds, self._end_of(task, fate, function, args))
        if fate == "grows":
            self.memory = LARGE
            self._world.grown.add(self.number)
        elif fate.startswith("freezes"):
            self._freeze()
            if fate == "freezes for a while":
                self._machine.after(self._rng.uniform(0.1, 100.0), self._thaw)

    def _end_of(self, task: int, fate: str, function: Any, args: Any) -> Callable[[], None]:
        def end() -> None:
            if self._run is None or self._run[0] != task:
                return  # It was interrupted.
            try:
                kind, body = wire.RETURNED, bytes(payload.dumps(function(*args)))
            except jobs.JobError as error:
                kind, body = wire.RAISED, payload.dump_error(error, payload.dumps)
            self._answer(task, kind, body, fate)

        return end

    def _answer(self, task: int, kind: int, body: bytes, fate: str) -> None:
        assert self._run is not None
        _, work = self._run
        frame = self._frame(kind, task, body)
        if fate == "half an answer":
            self._run = None
            self._is_bad_end("half a frame", frame)
            return
        if fate == "another's answer":
            self._world.liars.add(self.number)
            self._say(self._frame(kind, task + 1, body))
            return
        if self._is_bad_end(fate):
            return
        self._run = None
        for number, _ in work:
            self._world.judge.ends(number, self.number)
        if fate == "last words":
            self._say(frame, lambda: self._say_no_more(work))
        elif fate == "slow words":
            self._say(frame[:5])
            self._later(self._rng.uniform(0.0, 3.0), lambda: self._say(frame[5:], self._done))
        elif fate == "grandchild":
            self.process.grandchildren += 1
            self._say(frame, self._done)
        else:
            self._say(frame, self._done)

    def _say_no_more(self, work: list[tuple[int, float]]) -> None:
        for number, _ in work:
            self._world.judge.says(number)
        self.die(-signal.SIGSEGV)

    def _done(self) -> None:
        self.memory = SMALL
        self._idle()

    def _leave(self) -> None:
        fate = self._fate(self._world.weather.stops, STOP_FATES)
        if fate == "ignores":
            return
        if fate == "closes":
            self._stream.hang_up()
        seconds = self._rng.uniform(0.0, 0.01)
        if fate == "is slow":
            seconds = self._rng.uniform(0.1, 2 * self._world.grace)
        self._later(seconds, lambda: self.die(0))

    # ------------------------------------------------------------------ signals, death

    def _heed(self, number: int) -> None:
        if number == signal.SIGCONT:
            if self._is_frozen and self._rng.random() < 0.5:
                self._thaw()
        elif number == STACK_SIGNAL:
            self._later(self._rng.uniform(0.0, 0.002), lambda: self.recorder.write(_STACK))
            if self._rng.random() < 0.8:
                seconds = self._rng.uniform(0.002, 0.01)
                self._later(seconds, lambda: self.recorder.write(_STACK_END))
        elif number == INTERRUPT_SIGNAL and self._rng.random() < 0.7:
            # Else it came just before a system call, which it does not interrupt.
            self._later(LATENCY, self._interrupted)

    def _interrupted(self) -> None:
        if self._run is None or self._run[0] != self.recorder.interrupted:
            return
        task, _ = self._run
        if self.recorder.raised == task:
            return
        self.recorder.note_raised(task)
        if self._rng.random() < 0.3:
            return  # The task has caught it, and goes on.
        limit, left = self.recorder.interruption
        body = payload.dump_error(SoftTimeout("the task", limit=limit, left=left), payload.dumps)
        self._later(self._rng.uniform(0.0, 0.2), lambda: self._clean_up(task, body))

    def _clean_up(self, task: int, body: bytes) -> None:
        if self._run is not None and self._run[0] == task:
            self._answer(task, wire.RAISED, body, "well")

    def _killed(self) -> None:
        if self._is_dying or not self.process.is_alive:
            return
        self._is_dying = True
        weather = self._world.weather
        seconds = self._rng.uniform(0.0, 0.002)
        if weather.deaths and self._rng.random() < 0.3 * weather.deaths:
            seconds = self._rng.uniform(0.1, 30.0)
            self._note("does not die for", round(seconds, 3))
        self._machine.after(seconds, lambda: self.die(-signal.SIGKILL))

    def die(self, status: int) -> None:
        """Its last system call is over."""
        if self._has_let_go or not self.process.is_alive:
            return
        self._machine.handled += 1
        self._note("dies of", status)
        self._is_dying = self._has_let_go = True
        if self.process.grandchildren:
            # It has a copy of the channel: no end of file.
            self._machine.after(self._rng.uniform(0.1, 60.0), self.process.lose_grandchildren)
        else:
            self._stream.hang_up()
        if self._rng.random() < 0.5:
            self._machine.after(self._rng.uniform(0.0, MOMENT), lambda: self._end(status))
        else:
            self._end(status)

    def _end(self, status: int) -> None:
        fate = self._fate(self._world.weather.deaths, DEATH_FATES)
        self.process.end(status)
        self.ended(fate)
