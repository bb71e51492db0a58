"""A task on its way in, and the short cut that it may take.

While the supervisor sleeps, it lends its idle workers out: whoever submits a task takes a lease and
writes the task's frame to that worker's channel, which saves one thread's wake-up of the four that
a warm round trip would otherwise need. When the supervisor wakes up, it first of all revokes every
lease and learns who took one. So no lease exists while the core decides anything, and I1 reads: one
thread owns the descriptors, and lends an idle worker's, while it sleeps, for one frame.

One atomic step, ``dict.setdefault``, decides who has a lease *and* tells the other side what it was
taken for. Two steps would leave a gap in which a thread can be interrupted or stopped, with a
worker that is neither idle nor known to be busy.

Whoever waits for the answer may read it past the supervisor as well, see :mod:`warmpool.turns`, and
lend the worker on: then the lease is a log of what has passed, which the supervisor reads when it
wakes up, and ends by the same step.
"""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable
from typing import Any

from warmpool import wire
from warmpool.channel import AT_ONCE
from warmpool.events import PassedTask, TaskSpec
from warmpool.future import TaskFuture
from warmpool.turns import Steps, Turn

LONGEST_FRAME = 1 << 15
"""Bytes. What an idle worker's empty socket takes at once everywhere; more is the supervisor's."""


class Submission:
    """A task as its submitter hands it in.

    Attributes:
        spec: What the core is to know.
        future: The task's.
        payload: Function and arguments, pickled.
        taken_at: When a lease was taken for it (monotonic).
        turn: By which who waits for it may read the answer.
        sent: Whether its submitter has written the frame, as far as it went.
    """

    __slots__ = ("__weakref__", "future", "payload", "sent", "spec", "taken_at", "turn")

    def __init__(self, spec: TaskSpec, future: TaskFuture[Any], payload: wire.Body) -> None:
        self.spec = spec
        self.future = future
        self.payload = payload
        self.taken_at = 0.0
        self.turn: Turn | None = None
        self.sent = False


class Returned:
    """What has become of a lease.

    Attributes:
        worker: Whose.
        passed: The tasks that were answered past the supervisor.
        unsure: Futures of some of these, with kind and body of the answer, whose readers may have
            been interrupted before they had settled them, and told everybody.
        taken: The task that the worker has now.
        turn: Its turn.
    """

    __slots__ = ("passed", "taken", "turn", "unsure", "worker")

    def __init__(self, worker: int) -> None:
        self.worker = worker
        self.passed: list[PassedTask] = []
        self.unsure: list[tuple[TaskFuture[Any], int, bytes]] = []
        self.taken: Submission | None = None
        self.turn: Turn | None = None


class Lease:
    """The right to hand tasks to one idle worker, one after the other, while the supervisor sleeps.

    Made revoked. It holds a reference to the socket, which nobody closes otherwise than by
    letting go of it: a submitter that was stopped just before it writes must not write into a
    stranger's descriptor of the same number.

    Args:
        worker: The worker's number.
        pid: Its process.
        end: The supervisor's end of its data channel.
        steps: For turns; None: there are none.
        most: How many turns there are before the supervisor has to know of them.

    Attributes:
        worker, pid: As given.
    """

    __slots__ = ("_end", "_log", "_most", "_next", "_offer", "_steps", "_wake", "pid", "worker")

    def __init__(
        self,
        worker: int,
        pid: int,
        end: socket.socket,
        steps: Steps | None = None,
        most: int = 0,
    ) -> None:
        self.worker = worker
        self.pid = pid
        self._end = end
        self._steps = steps
        self._log: dict[int, Submission | PassedTask | None] = {0: None}
        # Invariant: what was put in first at a number stays, but for a Submission that becomes a
        # PassedTask. The last of the numbers is that of an unanswered Submission, or of None: then
        # nothing is put in any more.
        self._next = 0
        self._most = most
        self._offer: Callable[[Lease], None]
        self._wake: Callable[[], None]

    @property
    def is_muted(self) -> bool:
        """Whether the supervisor hears of the worker's answers by turns only."""
        return self._steps is not None

    def lend(self, offer: Callable[[Lease], None], wake: Callable[[], None]) -> None:
        """Offer it. *Threads:* the supervisor's.

        Once: who comes late from an earlier sleep of the supervisor's must not meet with a lease
        that is lent anew.

        Args:
            offer: Offers it again, to whoever submits next.
            wake: Wakes the supervisor up.
        """
        self._offer, self._wake = offer, wake
        del self._log[0]

    def take(self, submission: Submission) -> bool:
        """Take it; False if another was faster, or it is revoked. *Threads:* any."""
        return self._log.setdefault(self._next, submission) is submission

    def turn(self, spec: TaskSpec, now: float) -> Turn | None:
        """The turn of the task for which this is about to be taken, if it may have one."""
        if self._steps is None or self._next >= self._most:
            return None  # The supervisor has to be woken, if the worker is muted.
        return Turn(self._steps, spec, now, self)

    def pass_on(self, passed: PassedTask) -> None:
        """See :class:`~warmpool.turns.Lender`. *Threads:* whose turn it was."""
        self._log[self._next] = passed
        self._next += 1
        self._offer(self)

    def give_up(self) -> None:
        """See :class:`~warmpool.turns.Lender`. *Threads:* whose turn it is, or was."""
        self._wake()

    def revoke(self) -> Returned:
        """Take it back, and tell what it was taken for. *Threads:* the supervisor's."""
        log, returned = self._log, Returned(self.worker)
        # A reader that comes late must not offer it any more: it would keep the socket open.
        self._offer = _nobody
        for number in itertools.count():
            # The next may be put in at this very moment, by whoever was offered it after the last.
            entry: Submission | PassedTask | None = log.setdefault(number, None)
            if isinstance(entry, Submission):
                submission = entry
                # Not kept here: it keeps its future, and its turn this lease.
                log[number] = entry = self._revoke_turn(submission, returned)
                if entry is None:
                    returned.taken = submission
            if entry is None:
                break
            returned.passed.append(entry)
        return returned

    def _revoke_turn(self, submission: Submission, returned: Returned) -> PassedTask | None:
        turn, submission.turn = submission.turn, None
        if turn is None:
            return None
        turn.revoke()
        submission.future.take_turn()
        answer = turn.answer() if turn.is_won else None
        if answer is None:
            returned.turn = turn
            return None
        returned.unsure.append((submission.future, *answer))
        return turn.passed(answer[0], time.monotonic())

    def send(self, submission: Submission) -> memoryview | None:
        """Write the frame of the task that this was taken for, as far as it goes.

        Returns:
            What is left, if anything is. *Threads:* the taker's; does not block.
        """
        body: Any = submission.payload  # Not a parted one: that is long.
        frame = wire.HEADER.pack(wire.RUN, submission.spec.id, len(body)) + body
        try:
            written = self._end.send(frame, AT_ONCE)
        except (BrokenPipeError, ConnectionResetError):
            return None  # Dead or dying; its pidfd tells (I4).
        except OSError:
            written = 0  # Full (EAGAIN), or no memory for now (ENOBUFS): the supervisor goes on.
        return memoryview(frame)[written:] if written < len(frame) else None


def _nobody(_lease: Lease) -> None:
    """Takes the offer of a lease that is revoked."""
