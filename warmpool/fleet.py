"""The live workers as the supervisor's thread holds them.

Readiness of their descriptors becomes events, and the core's commands about them become system
calls. *Threads:* everything here is the supervisor's alone (I1).
"""

from __future__ import annotations

import functools
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

from warmpool import events as ev
from warmpool import wire
from warmpool.asking import Asker
from warmpool.channel import CHUNK, Channel
from warmpool.held import SAID, Held
from warmpool.lease import Lease
from warmpool.loop import READ, WRITE, Loop
from warmpool.oom import OomCounter
from warmpool.process import WorkerProcess
from warmpool.starts import Launched, Starts
from warmpool.turns import ARE_ATOMIC, Steps
from warmpool.wire import Message

STATUS_RETRY = 0.002
"""Seconds between two looks for an exit status that is late (I5)."""
STATUS_PATIENCE = 0.25
"""Seconds after which a late exit status counts as lost."""
DYING = 0.002
"""Seconds that a worker whose channel has ended has to be dead: then it has died, and that is all
the core hears of. Else it has closed its channel, and lives."""
LAST_WORDS = 1 << 22
"""Bytes read from a dead worker at most: its socket buffer holds less, a grandchild that goes on
writing into it might have more."""


class Fleet:
    """The processes and channels of a pool.

    Args:
        loop: Watches the descriptors.
        starts: Where processes come from.
        initializer: The body of every worker's first message, unless the launcher has sent that.
        handle: Takes an event to the core.
        pass_on: Takes a worker's log record, and the task that it has.
        take_back: Takes the tasks that were found in a worker's tray.
    """

    def __init__(
        self,
        loop: Loop,
        starts: Starts,
        initializer: bytes | None,
        handle: Callable[[ev.Event], None],
        pass_on: Callable[[int, int, bytes | bytearray], None],
        take_back: Callable[[tuple[int, ...]], None],
    ) -> None:
        self._loop = loop
        self._handle = handle
        self._pass_on = pass_on
        self._take_back = take_back
        self._initializer = initializer
        self._starts = starts
        self._held: dict[int, Held] = {}
        self._scratch = bytearray(CHUNK)
        self._oom = OomCounter()
        self._asker = Asker(loop, self._process, handle)
        self.has_turns = loop.can_mute and ARE_ATOMIC

    def close(self) -> None:
        """End the launcher, and whatever workers a collapse has left."""
        for worker, held in list(self._held.items()):
            held.process.kill()
            self._unwatch(held)
            del self._held[worker]
            self._starts.end(held.process)
        self._starts.close()
        self._initializer = None

    def pid(self, worker: int) -> int:
        """A live worker's process id."""
        return self._held[worker].process.pid

    # ------------------------------------------------------------------ commands

    def start(self, worker: int) -> None:
        """Have a worker started."""
        self._starts.start(worker)

    def run(self, worker: int, task: int, body: Any) -> None:
        """Send a task."""
        held = self._held[worker]
        if held.process.has_tray and len(body) <= ev.SMALL:
            # There also what will be laid out behind it goes, in this order.
            held.lays_out = held.process.put_into_tray(task, body)
            if held.lays_out:
                return
            # Mostly for want of memory, for the moment. What is laid out might overtake this one.
        self._send(held, wire.RUN, task, body)

    def lay_out(self, worker: int, task: int, body: Any) -> bool:
        """Put a task into a worker's tray; False if it has no room for it."""
        held = self._held[worker]
        return held.lays_out and held.process.put_into_tray(task, body)

    def empty_tray(self, worker: int) -> tuple[int, ...]:
        """Take out what the worker has not taken."""
        tasks = self._held[worker].process.empty_tray()
        if self._asker.interrupted:
            for task in tasks:
                # It may come to this worker again, and is not to end early then.
                self._asker.heard_of(worker, task)
        self._take_back(tasks)
        return tasks

    def lease(self, worker: int, most: int) -> Lease | None:
        """A new lease of a worker, unless something is yet to be sent to it.

        Args:
            worker: Its number.
            most: How many tasks may pass. If any may, the worker is muted: see :meth:`take_over`.
        """
        held = self._held[worker]
        channel = held.channel
        if not channel.is_clear:
            return None
        steps = None
        if most > 0 and held.listening and self.has_turns:
            steps = held.steps
            if steps is None:
                steps = held.steps = Steps(channel.descriptor, held.process.data.recv)
            self._loop.mute(channel.descriptor)
        return Lease(worker, held.process.pid, held.process.data, steps, most)

    def send_rest(self, worker: int, rest: memoryview) -> None:
        """Send what the taker of a lease could not."""
        if (held := self._held.get(worker)) is not None:
            self._see_to_the_rest(held, held.channel.send_rest(rest))

    def give_up(self, worker: int, task: int) -> bool:
        """Kill a worker that waits in vain for a task's frame; False if it has got it.

        Its exit will tell the core whether the task had started after all.
        """
        held = self._held.get(worker)
        if held is None or held.process.recorder.last_started == task:
            return False
        held.process.kill()
        return True

    def hold_off(self, worker: int) -> None:
        """Let a worker's channel be: another thread is in the middle of reading from it."""
        if (held := self._held.get(worker)) is not None:
            held.is_being_read = True

    def take_over(self, worker: int, data: bytes | None) -> None:
        """Read again from the channel of a worker that was muted.

        Args:
            worker: Its number.
            data: What another thread has read meanwhile.
        """
        if (held := self._held.get(worker)) is None:
            return
        held.is_being_read = False
        if held.listening:
            self._loop.unmute(held.channel.descriptor)
            if data is not None:
                self._hear(worker, held, *held.channel.take_in(data))

    def lose(self, worker: int) -> None:
        """Kill a worker of which an answer is lost; its exit will tell the core."""
        if (held := self._held.get(worker)) is not None:
            # Nor is anything believed that may begin in the middle of that answer.
            held.is_being_read = False
            self._unwatch_data(held)
            held.process.kill()

    def stop(self, worker: int) -> None:
        """Ask a worker to leave."""
        self._send(self._held[worker], wire.STOP, 0, b"")

    def kill(self, worker: int) -> None:
        """Kill a worker, or give up its start."""
        held = self._held.get(worker)
        if held is not None:
            held.process.kill()
            return
        self._starts.kill(worker)

    def abandon(self, worker: int) -> None:
        """Let go of a worker that does not die."""
        held = self._held.pop(worker, None)
        if held is not None:
            self._unwatch(held)
            self._release(held)

    def take_stack(self, worker: int, task: int | None) -> ev.StackTaken | None:
        """Have a worker write its stack down; the event, or None if it will come."""
        return self._asker.take_stack(worker, self._held[worker].process, task)

    def interrupt(self, command: ev.InterruptTask) -> None:
        """Raise in a worker's task."""
        self._asker.interrupt(self._held[command.worker].process, command)

    def beats(self, workers: Iterable[int]) -> dict[int, int]:
        """How often these workers have beaten."""
        self._oom.look()
        return {worker: self._held[worker].process.recorder.beats for worker in workers}

    def _send(self, held: Held, kind: int, task: int, body: Any) -> None:
        self._see_to_the_rest(held, held.channel.send(kind, task, body))

    def _see_to_the_rest(self, held: Held, all_sent: bool) -> None:
        if not all_sent and held.listening:
            self._loop.rewatch(held.channel.descriptor, READ | WRITE)

    # ------------------------------------------------------------------ starts

    def adopt(self, launched: Launched) -> None:
        """Take a started worker over from the launcher, or hear why there is none."""
        worker, process = launched.worker, self._starts.hear(launched)
        if process is None:
            return
        held = Held(process, Channel(process.data, self._scratch))
        try:
            self._loop.watch(process.watch, READ, functools.partial(self._on_death, worker))
            self._loop.watch(
                held.channel.descriptor, READ, functools.partial(self._on_data, worker)
            )
        except OSError as error:
            # The system's limit on what can be watched: one more failed start. Its end may block
            # a little, and so is the launcher's.
            self._unwatch(held)
            self._starts.end(process)
            self._starts.was_killed(worker)
            self._starts.failed(worker, error)
            return
        self._held[worker] = held
        self._handle(ev.WorkerSpawned(worker, process.pid))
        if self._starts.was_killed(worker):
            process.kill()
        elif self._initializer is not None:
            self._send(held, wire.INITIALIZE, 0, self._initializer)

    # ------------------------------------------------------------------ readiness

    def _on_data(self, worker: int, ready: int) -> None:
        held = self._held[worker]
        if ready & WRITE and held.channel.flush():
            self._loop.rewatch(held.channel.descriptor, READ)
        if ready & READ and not held.is_being_read:
            self._read(worker, held)

    def _read(self, worker: int, held: Held) -> bool:
        """Read once; False if nothing more is to be had."""
        try:
            messages, at_end = held.channel.receive()
        except BlockingIOError:
            return False
        self._hear(worker, held, messages, at_end)
        return held.listening

    def _hear(self, worker: int, held: Held, messages: list[Message], at_end: bool) -> None:
        for kind, task, body in messages:
            if kind == wire.LOG:
                self._pass_on(worker, task, body)
                continue
            if self._asker.interrupted:
                self._asker.heard_of(worker, task)
            self._handle(SAID[kind](worker, task, body))
        if held.channel.broken is not None:
            self._unwatch_data(held)
            left = self.empty_tray(worker)  # First: it goes on until it is killed.
            last = held.process.recorder.last_started
            detail = f"wrote what is no message ({held.channel.broken})"
            self._handle(ev.WorkerBrokeProtocol(worker, detail, last, left))
        elif at_end:
            self._unwatch_data(held)
            if not held.is_dead:
                # Who dies lets go of its descriptors some microseconds before it is dead.
                told = functools.partial(self._tell_of_the_end, worker)
                self._loop.call_at(time.monotonic() + DYING, told)

    def _tell_of_the_end(self, worker: int) -> None:
        held = self._held.get(worker)
        if held is not None and not held.is_dead:
            self._handle(ev.WorkerChannelClosed(worker))

    def _on_death(self, worker: int, _ready: int) -> None:
        held = self._held[worker]
        held.is_dead = True
        self._loop.forget(held.process.watch)  # It stays readable; once is enough.
        self._hear_last_words(worker)

    def _hear_last_words(self, worker: int) -> None:
        held = self._held.get(worker)
        if held is None:
            return  # Abandoned, or the pool has collapsed.
        if held.is_being_read:
            # By somebody who will be through with it in a moment: see overtaking.
            again = functools.partial(self._hear_last_words, worker)
            self._loop.call_at(time.monotonic() + STATUS_RETRY, again)
            return
        # What it wrote before it died counts: a result that arrived is a result.
        for _ in range(LAST_WORDS // CHUNK):
            if not held.listening or not self._read(worker, held):
                break
        self._unwatch_data(held)
        self._collect(worker, time.monotonic() + STATUS_PATIENCE)

    def _collect(self, worker: int, give_up_at: float) -> None:
        held = self._held.get(worker)
        if held is None:
            return  # Abandoned, or the pool has collapsed.
        now = time.monotonic()
        if not held.process.collect() and now < give_up_at:
            self._collect_later(worker, held, now, give_up_at)
            return
        if held.status_watch is not None:
            self._loop.forget(held.status_watch)
        left = self.empty_tray(worker)
        del self._held[worker]
        self._asker.forget(worker)
        recorder = held.process.recorder
        exitcode = held.process.exitcode
        exited = ev.WorkerExited(
            worker,
            exitcode,
            recorder.last_started,
            recorder.stacks() or None,
            out_of_memory=exitcode == -signal.SIGKILL and self._oom.has_grown,
            left=left,
        )
        try:
            self._handle(exited)  # First: somebody may wait for it.
        finally:
            self._release(held)

    def _collect_later(self, worker: int, held: Held, now: float, give_up_at: float) -> None:
        """The status is late (I5): look again when it comes."""
        again = functools.partial(self._collect, worker, give_up_at)
        if held.process.status_source is None:
            # Another thread of ours is collecting it; nothing tells when it has.
            self._loop.call_at(now + STATUS_RETRY, again)
        elif held.status_watch is None:
            # The fork server has yet to pass it on, unless it is stopped.
            held.status_watch = held.process.status_source
            self._loop.watch(held.status_watch, READ, lambda _ready: again())
            self._loop.call_at(give_up_at, again)

    def _unwatch_data(self, held: Held) -> None:
        if held.listening:
            held.listening = False
            self._loop.forget(held.channel.descriptor)

    def _unwatch(self, held: Held) -> None:
        self._unwatch_data(held)
        for descriptor in (held.process.watch, held.status_watch):
            if descriptor is not None:
                self._loop.forget(descriptor)

    def _process(self, worker: int) -> WorkerProcess | None:
        return held.process if (held := self._held.get(worker)) is not None else None

    def _release(self, held: Held) -> None:
        held.channel.close()
        held.process.release()
