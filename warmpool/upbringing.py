"""A template from its start to its being ready, or to its end: what it says, and what it costs.

*Threads:* the one that makes it, but for :meth:`Upbringing.kill`.
"""

from __future__ import annotations

import threading
import time
from multiprocessing.connection import wait

from warmpool import errors, payload, stacks, wire
from warmpool.channel import AT_ONCE
from warmpool.failures import MAIN_HINT, exit_text
from warmpool.orphans import collect_group
from warmpool.process import WorkerProcess
from warmpool.servers import END_PATIENCE

STACK_POLL, STACK_PATIENCE = 0.001, 0.2
"""Seconds between two looks whether it has written its stack, and in all."""
STATUS_PATIENCE = 0.25
"""Seconds that an exit status may be late."""
SEND_AGAIN = 0.001
"""Seconds between two attempts to send what did not fit into the channel."""
LINGER = 0.5
"""Seconds between the end of its channel and its death: as in ``staffing``."""
_LONGEST_BODY = 1 << 24
_LONGEST_READ = 1 << 16


class Unfit(Exception):
    """The preload has left threads: nothing may be forked beside those.

    Attributes:
        failure: The same as an error.
    """

    def __init__(self, failure: errors.TemplateFailed) -> None:
        super().__init__(str(failure))
        self.failure = failure


class Upbringing:
    """One template's.

    Args:
        pool: The pool's name.
        process: Just started.
        preload: What it is to preload, pickled.
    """

    def __init__(self, pool: str, process: WorkerProcess, preload: bytes) -> None:
        self.process = process
        self._pool = pool
        self._pid = process.pid
        self._culprit = "preload" if preload else "the main module"
        self._began = time.monotonic()
        self._stage = "starting"
        self._unsent = memoryview(wire.header(wire.INITIALIZE, 0, len(preload)) + preload)
        self._reader = wire.Reader(wire.FROM_TEMPLATE, _LONGEST_BODY)
        # A kill on another thread must not hit a number that this one has closed.
        self._lock = threading.Lock()
        self._released = False

    # ------------------------------------------------------------------ growing up

    def see_through(self, limit: float) -> None:
        """Wait until it is ready, so many seconds.

        Raises:
            TemplateFailed: It never will be.
            Unfit: It is, but must not fork.
        """
        process = self.process
        give_up_at = self._began + limit
        while self._stage != "ready":
            left = max(0.0, give_up_at - time.monotonic())
            pause = SEND_AGAIN if self._stage == "preloading" and self._unsent else left
            ready = wait([process.data, process.watch], min(pause, left))
            if self._stage == "preloading" and self._unsent:
                self._send()
            if process.data in ready:
                self._listen()
            elif ready:
                raise self.died()
            elif left == 0.0:
                raise self.hung(f"was not ready within {limit:.4g} s")

    def _send(self) -> None:
        # Not before it says hello: one that hangs earlier would not take it.
        try:
            self._unsent = self._unsent[self.process.data.send(self._unsent, AT_ONCE) :]
        except BlockingIOError:
            pass  # A long one: it has yet to read the beginning.
        except (BrokenPipeError, ConnectionResetError):
            self._unsent = self._unsent[:0]  # It is dead or dying; its pidfd tells.

    def _listen(self) -> None:
        try:
            data = self.process.data.recv(_LONGEST_READ)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        for kind, _, body in self._reader.feed(data):
            self._hear(kind, body)
        if self._reader.broken is not None:
            raise self._failure(f"wrote what is no message ({self._reader.broken})")
        if not data and self._stage != "ready":
            if wait([self.process.watch], LINGER):
                raise self.died()
            raise self._failure("closed its channel and lived on")

    def _hear(self, kind: int, body: bytes | bytearray) -> None:
        if (kind == wire.HELLO) != (self._stage == "starting"):
            raise self._failure(f"said {kind:#x} while {_STAGES[self._stage]}")
        if kind == wire.HELLO:
            self._stage = "preloading"
        elif kind == wire.READY:
            self._stage = "ready"
        elif kind == wire.INITIALIZER_RAISED:
            # Nothing of the user's is unpickled on this thread (I2): its text has to do.
            failure = self._failure(f"failed: preload raised {payload.error_summary(body)}")
            failure.__cause__ = errors.RemoteTraceback(payload.error_text(body))
            raise failure
        else:
            raise Unfit(
                self._failure(
                    f"must not fork: {self._culprit} has left threads running "
                    f"({self._names(body)}), and what they hold would be held for ever in the "
                    "workers. Start threads in the initializer"
                )
            )

    def _names(self, body: bytes | bytearray) -> str:
        # It is data (I13).
        try:
            names = body.decode().split("\0")
        except UnicodeDecodeError:
            names = []
        if not names or not all(names):
            raise self._failure(f"wrote what is no message ({bytes(body[:80])!r})")
        return ", ".join(map(repr, names))

    # ------------------------------------------------------------------ its end

    def died(self) -> errors.TemplateFailed:
        """What to tell of it: it is dead."""
        give_up_at = time.monotonic() + STATUS_PATIENCE
        # Not locked throughout: the supervisor's thread kills, and must not wait for it (I3).
        while not self._is_collected() and time.monotonic() < give_up_at:
            wait([], STACK_POLL)
        exitcode = self.process.exitcode
        with self._lock:
            stack = None if self._released else self.process.recorder.stacks() or None
        hint = MAIN_HINT if self._stage == "starting" and exitcode == 1 else ""
        text = f"died while {_STAGES[self._stage]}: {exit_text(exitcode)}{hint}"
        return self._failure(text, stack=stack, exitcode=exitcode)

    def _is_collected(self) -> bool:
        with self._lock:
            return self._released or self.process.collect()

    def hung(self, what: str) -> errors.TemplateFailed:
        """Kill it, and say so, with its stack."""
        stack = self._stack()
        place = None if stack is None else stacks.where(stack)
        at = "" if place is None else f", in {place}"
        self.kill()
        return self._failure(
            f"{what}, it was {_STAGES[self._stage]}{at}; it was killed", stack=stack
        )

    def _stack(self) -> str | None:
        process = self.process
        if not process.ask_for_stack():
            return None
        give_up_at = time.monotonic() + STACK_PATIENCE
        before, text = "", process.recorder.stacks()
        while not (text and text == before and stacks.looks_complete(text)):
            if time.monotonic() >= give_up_at or wait([process.watch], STACK_POLL):
                break
            before, text = text, process.recorder.stacks()
        return text or None

    def _failure(
        self, what: str, *, stack: str | None = None, exitcode: int | None = None
    ) -> errors.TemplateFailed:
        return errors.TemplateFailed(
            f"the template of pool {self._pool!r} (pid {self._pid}) {what}",
            pid=self._pid,
            stage=self._stage,
            exitcode=exitcode,
            uptime=time.monotonic() - self._began,
            stack=None if stack is None else stacks.tidy(stack),
        )

    def kill(self) -> None:
        """SIGKILL it and what it has started. *Threads:* any; never blocks for long."""
        with self._lock:
            if not self._released:
                self.process.kill()

    def end(self) -> None:
        """Kill and collect it, within a bound."""
        self.kill()
        if self._is_released():
            return
        # One in an uninterruptible sleep is left to itself: its lifeline's end kills it.
        wait([self.process.watch], END_PATIENCE)
        if self._release():
            # Its spare, above all, which was killed with it, and which nobody else knows of.
            collect_group(self._pid)

    def _is_released(self) -> bool:
        with self._lock:
            return self._released

    def _release(self) -> bool:
        with self._lock:
            before, self._released = self._released, True
            if not before:
                self.process.collect()
                self.process.release()
            return not before


_STAGES = {
    "starting": "starting (interpreter, imports of __main__)",
    "preloading": "preloading",
    "ready": "waiting for the next start",
}
