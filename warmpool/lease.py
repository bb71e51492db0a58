"""A task on its way in, and the short cut that it may take.

While the supervisor sleeps, it lends its idle workers out: whoever submits a task takes a lease and
writes the task's frame to that worker's channel, which saves one thread's wake-up of the four that
a warm round trip would otherwise need. When the supervisor wakes up, it first of all revokes every
lease and learns who took one. So no lease exists while the core decides anything, and I1 reads: one
thread owns the descriptors, and lends an idle worker's, while it sleeps, for one frame.

One atomic step, ``dict.setdefault``, decides who has a lease *and* tells the other side what it was
taken for. Two steps would leave a gap in which a thread can be interrupted or stopped, with a
worker that is neither idle nor known to be busy.
"""

from __future__ import annotations

import socket
from typing import Any

from warmpool import wire
from warmpool.channel import AT_ONCE
from warmpool.events import TaskSpec
from warmpool.future import TaskFuture

LONGEST_FRAME = 1 << 15
"""Bytes. What an idle worker's empty socket takes at once everywhere; more is the supervisor's."""


class Submission:
    """A task as its submitter hands it in.

    Attributes:
        spec: What the core is to know.
        future: The task's.
        payload: Function and arguments, pickled.
        taken_at: When a lease was taken for it (monotonic).
        sent: Whether its submitter has written the frame, as far as it went.
    """

    __slots__ = ("__weakref__", "future", "payload", "sent", "spec", "taken_at")

    def __init__(
        self, spec: TaskSpec, future: TaskFuture[Any], payload: bytes | memoryview
    ) -> None:
        self.spec = spec
        self.future = future
        self.payload = payload
        self.taken_at = 0.0
        self.sent = False


class Lease:
    """The right to hand one task to one idle worker.

    Made revoked. It holds a reference to the socket, which nobody closes otherwise than by
    letting go of it: a submitter that was stopped just before it writes must not write into a
    stranger's descriptor of the same number.

    Args:
        worker: The worker's number.
        pid: Its process.
        end: The supervisor's end of its data channel.
    """

    __slots__ = ("_holder", "_socket", "pid", "worker")

    def __init__(self, worker: int, pid: int, end: socket.socket) -> None:
        self.worker = worker
        self.pid = pid
        self._socket = end
        self._holder: dict[str, Submission | None] = {"is": None}

    def lend(self) -> None:
        """Offer it. *Threads:* the supervisor's, which has revoked it before."""
        del self._holder["is"]

    def take(self, submission: Submission) -> bool:
        """Take it; False if another was faster, or it is revoked. *Threads:* any."""
        return self._holder.setdefault("is", submission) is submission

    def revoke(self) -> Submission | None:
        """Take it back, and tell what it was taken for. *Threads:* the supervisor's."""
        holder = self._holder
        taken = holder.setdefault("is", None)
        holder["is"] = None
        return taken

    def send(self, submission: Submission) -> memoryview | None:
        """Write the frame of the task that this was taken for, as far as it goes.

        Returns:
            What is left, if anything is. *Threads:* the taker's; does not block.
        """
        body = submission.payload
        frame = wire.header(wire.RUN, submission.spec.id, len(body)) + body
        try:
            written = self._socket.send(frame, AT_ONCE)
        except (BrokenPipeError, ConnectionResetError):
            return None  # Dead or dying; its pidfd tells (I4).
        except OSError:
            written = 0  # Full (EAGAIN), or no memory for now (ENOBUFS): the supervisor goes on.
        return memoryview(frame)[written:] if written < len(frame) else None
