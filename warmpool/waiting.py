"""How a thread waits for a future: it reads the answer itself, or sleeps until somebody has."""

from __future__ import annotations

import contextlib
import time

from warmpool import wire
from warmpool.parker import NOBODY, OTHER, TOKEN, Parker, Parkers
from warmpool.turns import Turn

Answer = tuple[int, bytes]
"""Kind and body."""


class Awaited:
    """What can be waited for: the base of :class:`~warmpool.future.TaskFuture`.

    *Threads:* any, signal handlers included: each step is one atomic operation.
    """

    def park(self, parker: Parker) -> list[Parker]:
        """Be woken by this parker; who takes it off the list that this gives, is not."""
        parked: list[Parker] = self.__dict__.setdefault("_parked", [])
        parked.append(parker)
        return parked

    def parked(self) -> list[Parker]:
        """Take those whom a settled future has yet to wake; the taker has to."""
        # Each is taken once, by us or by itself. Who parks later looks at the state first.
        taken: list[Parker] = []
        if parked := self.__dict__.get("_parked"):
            with contextlib.suppress(IndexError):
                taken.extend(iter(parked.pop, None))
        return taken

    def offer_turn(self, turn: Turn) -> None:
        """Let the first who waits read the answer."""
        self.__dict__["_turn"] = turn

    def take_turn(self) -> Turn | None:
        """Be that one; None if somebody else was faster, or nobody is to."""
        turn: Turn | None = self.__dict__.pop("_turn", None)
        return turn

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to wait for."""
        raise NotImplementedError

    @property
    def has_audience(self) -> bool:
        """Whether anybody is to be told of the settlement who has not parked."""
        raise NotImplementedError

    def settle_returned(self, body: bytes | bytearray, now: float) -> None:
        """Settle with an encoded result."""
        raise NotImplementedError

    def settle_raised(self, body: bytes | bytearray, now: float) -> None:
        """Settle with an encoded exception."""
        raise NotImplementedError

    def wait(self, parkers: Parkers, timeout: float | None) -> None:
        """Wait until this is settled, or for so many seconds. *Threads:* any; blocks.

        What raises in here, be it a signal handler, may do so at any line.
        """
        parker = parkers.take()
        parked = self.park(parker)
        woken, turn, answer = False, None, None
        try:
            if not self.is_settled:
                turn = self.__dict__.pop("_turn", None)
                if turn is not None and not parker.has_descriptor:
                    # More threads wait than have a pipe. The supervisor does not know of this one.
                    turn.lender.give_up()
                    turn = None
                if turn is None:
                    woken = parker.park(timeout)
                else:
                    woken, answer = _read(turn, parker, timeout)
        finally:
            # In time, or interrupted, or the answer was read here.
            try:
                if not woken:
                    parked.remove(parker)
            except ValueError:
                parkers.lose(parker)  # Somebody is about to unpark it.
            else:
                parkers.give_back(parker)
        if turn is not None and answer is not None:
            self._give(turn, answer, parked)

    def _give(self, turn: Turn, answer: Answer, parked: list[Parker]) -> None:
        """Settle with what was read here, tell everybody, and have the worker lent on."""
        told = False
        try:
            kind, body = answer
            now = time.monotonic()
            if kind == wire.RETURNED:
                self.settle_returned(body, now)
            else:
                self.settle_raised(body, now)
            # In this order: who parks, or adds a callback, says so and then looks at the state.
            if parked:
                for parker in self.parked():
                    parker.unpark()
            told = not self.has_audience
        finally:
            if told:
                turn.lender.pass_on(turn.passed(kind, now))
            else:
                turn.lender.give_up()  # The supervisor tells them, or does all of it.


def _read(turn: Turn, parker: Parker, timeout: float | None) -> tuple[bool, Answer | None]:
    """Wait for the answer and read it, or to be woken; tell which of the two it was, if any."""
    answer = deadline = None
    came = NOBODY
    try:
        deadline = None if timeout is None else time.monotonic() + timeout
        came = parker.park_beside(turn.descriptor, timeout)
        if came == OTHER and turn.step():
            read = turn.answer()
            if read is not None and turn.step():
                answer = read  # Else the supervisor was faster, and has it too.
    finally:
        if answer is None and came != TOKEN:
            turn.lender.give_up()  # Nobody hears of this worker, as things are.
    if answer is not None or came in (NOBODY, TOKEN):
        return came == TOKEN, answer
    return parker.park(None if deadline is None else max(0.0, deadline - time.monotonic())), None
