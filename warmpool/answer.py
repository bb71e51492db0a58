"""How one thread waits for one word of the supervisor's."""

from __future__ import annotations

import itertools
import threading

_this_thread = threading.local()


def supervise() -> None:
    """Note that this thread is a supervisor's, and may wait for none (I3)."""
    _this_thread.supervises = True


def may_wait() -> bool:
    """Whether this thread may wait for a supervisor.

    Not if it is one: the garbage collector runs finalizers, which are user code, on whatever thread
    it comes up, and one may ask a pool something.
    """
    return not getattr(_this_thread, "supervises", False)


class Answer:
    """One waiter's answer, given once.

    A bare lock, so that a signal handler may wait for one of its own while the code that it
    interrupted waits for another.
    """

    __slots__ = ("_given", "error")

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._given = threading.Lock()
        self._given.acquire()

    def give(self, error: BaseException | None = None) -> None:
        """Answer. Once; never blocks."""
        self.error = error
        self._given.release()

    def wait(self, timeout: float | None) -> bool:
        """Wait for it, in seconds; False if it has not come. *Threads:* one; blocks."""
        return self._given.acquire(
            timeout=-1 if timeout is None else max(0.0, min(timeout, threading.TIMEOUT_MAX))
        )


class Waiters:
    """Numbered waiters, each of which gets at most one answer. *Threads:* any; never blocks."""

    def __init__(self) -> None:
        self._answers: dict[int, Answer] = {}
        self._numbers = itertools.count(1)

    def join(self) -> tuple[int, Answer]:
        """Be one of them: a number, and where the answer will come."""
        number, answer = next(self._numbers), Answer()
        self._answers[number] = answer
        return number, answer

    def leave(self, number: int) -> bool:
        """Wait no longer; True if there was no answer yet."""
        return self._answers.pop(number, None) is not None

    def answer(self, number: int, error: BaseException | None = None) -> None:
        """Answer one, unless it has left, or has been answered, in this instant."""
        answer = self._answers.pop(number, None)
        if answer is not None:
            answer.give(error)

    def answer_all(self, error: BaseException | None = None) -> None:
        """Answer all that are there."""
        for number in list(self._answers):
            self.answer(number, error)
