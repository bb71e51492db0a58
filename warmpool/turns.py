"""Whose turn it is to read a worker's answer: between a waiting thread and the supervisor.

A task that goes to its worker by a lease may get a turn. Whoever waits for its future in
``result()`` may read the answer by it, as long as the supervisor sleeps, whose selector does not
report that worker's channel meanwhile. So neither does the supervisor have to be woken for the
answer nor, by it, the waiter. A turn has two steps, which its reader makes one after the other:

1. ``READ``: what has arrived is taken in;
2. ``CLAIM``: it is this task's whole answer, and *the reader's to give*.

Two facts make that safe.

* **A step is atomic for Python.** Taking the permit for it, the call, and noting what came of that
  are one call of a C function: no signal handler runs in it, no exception comes out of it but the
  system call's, and the GIL is let go of in the system call alone. So a step is yet to be made, or
  is noted, or is under way; the latter only in ``READ``, and for as long as a system call takes
  that does not block.
* **The permits are a list from which both sides take**, the reader one at a time, the supervisor
  all that are left, in one call. It does so whenever it wakes up, before anything is decided (I1),
  and knows from what was left and what is noted how far the reader has come. No step is begun then.

What the supervisor makes of it:

====================  =========================================================================
the reader has come   and the supervisor
====================  =========================================================================
nowhere               reads the answer, as ever
to ``READ``           takes in what was read as if it had read it itself
to ``CLAIM``          counts the task as answered; settles it with that answer too, should the
                      reader have been interrupted before it did: the same twice is the same
====================  =========================================================================

While ``READ`` is under way it lets that channel be, and asks again in a moment: ``overtaking``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import starmap
from operator import call
from typing import Any, Protocol

from warmpool import wire
from warmpool.channel import AT_ONCE
from warmpool.events import Outcome, PassedTask, TaskSpec

LONGEST_ANSWER = 1 << 14
"""Bytes, with the header, that a waiting thread reads; of a longer one it reads the beginning, and
leaves the rest to the supervisor."""

ARE_ATOMIC: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether the call of a C function is atomic here: not without the GIL."""

READ, CLAIM = 1, 2

_Step = tuple[Any, ...]
"""A function that does not block, and its arguments."""

_OUTCOMES = {wire.RETURNED: Outcome.RETURNED, wire.RAISED: Outcome.RAISED}
_HEAD, _unpack = wire.HEADER.size, wire.HEADER.unpack_from
_NOTHING = object()


class Steps:
    """The steps of every turn with one worker.

    Args:
        descriptor: The supervisor's end of its data channel.
        receive: The same end's ``recv``.
    """

    __slots__ = ("descriptor", "permits")

    def __init__(self, descriptor: int, receive: Callable[[int, int], bytes]) -> None:
        self.descriptor = descriptor
        # The first is the last, and each has an end mark after it.
        self.permits: list[_Step | None] = [
            None,
            (bool,),
            None,
            (receive, LONGEST_ANSWER, AT_ONCE),
        ]


class Lender(Protocol):
    """Whoever has to know how a turn has ended: a :class:`~warmpool.lease.Lease`."""

    def pass_on(self, passed: PassedTask) -> None:
        """The answer is given and everybody knows; the worker may be lent on. Never blocks."""

    def give_up(self) -> None:
        """The supervisor has to go on with this; it is woken. Never blocks."""


class Turn:
    """The right to read the answer of one task.

    Args:
        steps: The worker's.
        spec: The task.
        taken_at: When its submitter took the lease (monotonic).
        lender: Has to know how it ends.

    Attributes:
        spec, taken_at, lender: As given.
        descriptor: Gets readable when the answer comes.
        begun: How many steps the reader has begun; known once it is revoked.
    """

    __slots__ = ("_notes", "_permits", "begun", "descriptor", "lender", "spec", "taken_at")

    def __init__(self, steps: Steps, spec: TaskSpec, taken_at: float, lender: Lender) -> None:
        self.spec = spec
        self.taken_at = taken_at
        self.lender = lender
        self.descriptor = steps.descriptor
        self.begun = 0
        self._permits = steps.permits.copy()
        self._notes: list[Any] = []

    # ------------------------------------------------------------------ for the reader

    def step(self) -> bool:
        """Make the next step; False if it must not be made any more.

        *Threads:* one, whoever has got the turn out of the future. Does not block.
        """
        notes = self._notes
        before = len(notes)
        try:
            # One call, from the permit to the note. An end mark ends it after one step.
            notes.extend(starmap(call, iter(self._permits.pop, None)))
        except IndexError:
            pass  # It has been revoked, maybe while the step was made.
        except BaseException as error:
            # Noted too, for it is over: the worker is gone, or there is no memory.
            if len(notes) == before:
                notes.append(error)
            if not isinstance(error, OSError):
                raise
        return len(notes) > before

    def answer(self) -> tuple[int, bytes] | None:
        """Kind and body of what was read, None if that is anything but this task's whole answer."""
        data = self._notes[0]
        if type(data) is not bytes or len(data) < _HEAD:
            return None
        kind, task, length = _unpack(data)
        if task != self.spec.id or len(data) != _HEAD + length or kind not in _OUTCOMES:
            return None
        return kind, data[_HEAD:]

    def passed(self, kind: int, now: float) -> PassedTask:
        """What the core has to hear of a task that was answered by this."""
        return PassedTask(self.spec, self.taken_at, now, _OUTCOMES[kind])

    # ------------------------------------------------------------------ for the supervisor

    def revoke(self) -> None:
        """See to it that no further step is begun. Once."""
        left: list[Any] = []
        try:
            # In one call as well: else the reader could make two steps in a row, when an end mark
            # is taken from between them.
            left.extend(iter(self._permits.pop, _NOTHING))
        except IndexError:
            pass
        self.begun = CLAIM - len(left) + left.count(None)

    @property
    def is_under_way(self) -> bool:
        """Whether the reader is in the middle of a step; to be asked once it is revoked."""
        return len(self._notes) < self.begun

    @property
    def is_won(self) -> bool:
        """Whether it is the reader who gives the answer; to be asked once it is revoked."""
        # Nobody begins the last step without having seen a whole answer.
        return self.begun == CLAIM

    @property
    def taken_in(self) -> bytes | None:
        """What was read, as far as it goes; None for nothing."""
        data = self._notes[0] if self._notes else None
        return data if type(data) is bytes else None
