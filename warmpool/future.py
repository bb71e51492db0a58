"""The future of a task: settled once by the supervisor, decoded by whoever asks."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, _base
from typing import Any, Generic, NoReturn, TypeVar

from warmpool.answer import may_wait
from warmpool.callbacks import Callback, logger
from warmpool.control import TaskControl
from warmpool.errors import PoolClosed
from warmpool.nolock import NO_LOCK
from warmpool.stats import TaskInfo
from warmpool.verdict import Box, Encoded, Verdict, verdict_of
from warmpool.waiting import Awaited

T = TypeVar("T")


_NOBODY: deque[Any] = deque()


class TaskFuture(Awaited, Future[T], Generic[T]):
    """A ``concurrent.futures.Future`` of a task, which can also be killed.

    ``exception()`` returns, and ``result()`` raises, what the task raised, with a
    :class:`~warmpool.RemoteTraceback` as its cause, or a :class:`~warmpool.WarmpoolError`.

    A result that cannot be unpickled is found out by the first who asks for it; until then
    ``concurrent.futures.wait(return_when=FIRST_EXCEPTION)`` takes it for a success.
    """

    # No lock decides anything here, for the supervisor's thread waits for none (I3): each step is
    # one atomic operation, and whoever changes something does so before he looks who waits for it,
    # while whoever waits says so before he looks whether it has changed.
    #
    # concurrent.futures' own functions (wait(), as_completed()) need a lock of each future, and a
    # state that does not change while they have it. The lock is made when the first of them asks;
    # Base.__init__ would make one for all, for a third of the price of a task. Who first puts
    # something in its place decides: they, a lock, and they see the future settled once that was
    # taken to tell them; or who settles, a lock that is none, and they never see it unsettled.
    _outcome: str | None = None
    _result: Any = None
    _exception: BaseException | None = None
    _done_callbacks = ()
    _told = False

    _started: float | None = None
    _ended: float | None = None
    _pid: int | None = None
    _attempts = 0
    lies = False
    # Invariant: True if it was laid out for its worker, which may have begun with it since.
    _verdict: Verdict | None = None

    def __init__(self, control: TaskControl, task: int, queued: float) -> None:
        self._unclaimed = True
        self._task = task
        self._control = control
        self._queued = queued

    # Properties and no __getattr__, which would make every look at an attribute slower.

    @property
    def _condition(self) -> Any:  # type: ignore[override]
        own = self.__dict__
        if "_condition" not in own:
            if not may_wait():
                raise RuntimeError("a finalizer on a supervisor's thread may not wait for a future")
            self._observe()
            own.setdefault("_condition", threading.Condition())
        return own["_condition"]

    @property
    def _waiters(self) -> Any:  # type: ignore[override]
        return self.__dict__.setdefault("_waiters", [])

    @property
    def _state(self) -> str:  # type: ignore[override]
        # What concurrent.futures' own functions see.
        self._observe()
        seen = self._told or self.__dict__.get("_condition") is NO_LOCK
        return _base.PENDING if self._outcome is None or not seen else self._outcome

    def __repr__(self) -> str:
        if self.running():
            state = "running"
        elif self.done():
            state = "cancelled" if self.cancelled() else "settled"
        else:
            state = "queued"
        return f"<{type(self).__name__} of task {self._task}, {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a future cannot be pickled: it belongs to the process that made it")

    # ------------------------------------------------------------------ for callers

    @property
    def info(self) -> TaskInfo:
        """When and where the task ran. *Threads:* any; never blocks."""
        self._observe()
        return TaskInfo(self._pid, self._queued, self._started, self._ended, self._attempts)

    def kill(self, grace: float | None = None) -> bool:
        """Kill the task: its worker with SIGKILL, or, while it waits, cancel it.

        The future fails with :class:`~warmpool.WorkerDied`, unless the task is faster.

        Args:
            grace: Seconds between :class:`~warmpool.SoftTimeout` in the task and SIGKILL.

        Returns:
            Whether the task was unfinished. *Threads:* any; does not block.
        """
        if self.cancel():
            return True
        if self.done():
            return False
        self._control.kill(self._task, grace)
        return True

    def cancel(self) -> bool:
        """Cancel the task if no worker has begun with it; see ``kill()``.

        *Threads:* any; callbacks run in the caller's. Blocks for a moment if the task is next in
        line for a worker that does many small ones.
        """
        if self._claim():
            self.finish_cancelling(time.monotonic())
        elif not (self.cancelled() or self._withdraw()):
            return False
        # Also when it was cancelled before: who did that may have been interrupted here. The
        # callbacks are taken first: the supervisor, which wakes the others, would call them too.
        callbacks: deque[Callback] = self.__dict__.pop("_callbacks", _NOBODY)
        self._control.cancelled(self._task)
        try:
            with contextlib.suppress(IndexError):  # Who adds one at this moment takes it back.
                while True:
                    self._call(callbacks.popleft().function)
        finally:
            if callbacks:
                self.__dict__.setdefault("_callbacks", callbacks)
        return True

    def _withdraw(self) -> bool:
        # Who has it, the worker or its tray, is for the kernel to say: see warmpool.tray.
        if not self.lies or self._outcome is not None or not may_wait():
            return False
        self._control.withdraw(self._task)
        return self.cancelled()

    def cancelled(self) -> bool:
        """Whether the task was cancelled. *Threads:* any; never blocks."""
        return self._outcome == _base.CANCELLED_AND_NOTIFIED

    def running(self) -> bool:
        """Whether it was handed to a worker, and is unfinished. *Threads:* any; never blocks."""
        self._observe()
        return self._attempts > 0 and self._outcome is None

    def done(self) -> bool:
        """Whether the future is settled or cancelled. *Threads:* any; never blocks."""
        self._observe()
        return self._outcome is not None

    @property
    def is_settled(self) -> bool:
        """As :meth:`done`, and no sign that anybody asks otherwise than by waiting."""
        return self._outcome is not None

    def _observe(self) -> None:
        # Somebody wants to know, and does not wait in result(): whoever has a turn may never come,
        # so the supervisor has to read the answer.
        if "_turn" in self.__dict__ and (turn := self.take_turn()) is not None:
            self._control.parkers.are_expected = False
            turn.lender.give_up()

    def result(self, timeout: float | None = None) -> T:
        """The task's result; waits for it.

        Args:
            timeout: Seconds; None for as long as it takes.

        Raises:
            BaseException: What the task raised.
            WarmpoolError: What happened to it.
            TimeoutError: It is not settled within the timeout; it goes on.
            concurrent.futures.CancelledError: It was cancelled.

        *Threads:* any; blocks. Unpickles in the caller's thread, the first time.
        """
        value, error = self._verdict or self._decide(timeout)
        if error is not None:
            try:
                raise error
            finally:
                # The traceback keeps this frame, the frame the error: break the circle.
                del error, self
        result: T = value
        return result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the task raised, or what happened to it; None if it has a result.

        As :meth:`result` otherwise.
        """
        return (self._verdict or self._decide(timeout))[1]

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        # From 3.14 on asyncio.wrap_future() asks by this, and would get what is still encoded.
        if not self.done() or self.cancelled():
            return self.done(), self.cancelled(), None, None
        return True, False, *self._decide(None)

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Call ``fn(self)`` once the future is settled or cancelled.

        *Threads:* any. The call comes on a thread of the pool, not the supervisor's; at once in
        the caller's if the future is settled already, and in the canceller's if it is cancelled.
        What it raises is logged.
        """
        callback = Callback(fn)
        # Made by the first who needs it; atomic, as every step here has to be. Most futures never
        # need one.
        callbacks: deque[Callback] = self.__dict__.setdefault("_callbacks", deque())
        callbacks.append(callback)
        if self.done():
            try:
                callbacks.remove(callback)
            except ValueError:
                return  # Whoever settled the future was faster and has taken it.
            self._call(fn)

    def _call(self, function: Callable[[Any], object]) -> None:
        try:
            function(self)
        except Exception:
            logger.exception("exception calling callback for %r", self)

    def _decide(self, timeout: float | None) -> Verdict:
        control = self._control
        if control.is_foreign:
            raise PoolClosed(
                "this future belongs to the process that made it: in a fork of that nobody will "
                "settle it"
            )
        if self._outcome is None:
            if not may_wait():
                raise RuntimeError("a finalizer on a supervisor's thread may not wait for a future")
            if timeout is not None and timeout <= 0:
                self._observe()
                raise TimeoutError
            self.wait(control.parkers, timeout)
            if self._outcome is None:
                raise TimeoutError
        if not control.parkers.are_expected and not self.has_audience:
            # Of the next task: that it is waited for here too, and not by other means.
            control.parkers.are_expected = True
        if self._outcome == _base.CANCELLED_AND_NOTIFIED:
            raise CancelledError
        return self._verdict or self._decode(self._exception or self._result)

    def _decode(self, held: Box | Encoded | BaseException) -> Verdict:
        # No lock: unpickling is user code, which may hang, and a signal handler may run meanwhile;
        # either may ask this very future. Whoever asks before there is a verdict decodes what is
        # there; the first verdict counts, the body goes last.
        verdict = verdict_of(held)
        if self._verdict is None:
            self._verdict = verdict
        if isinstance(held, (Box, Encoded)):
            held.body = b""
        return self._verdict

    # -------------------------------------------- for the supervisor, and who reads in its place

    def handed_over(self, pid: int | None, now: float, *, lies: bool = False) -> bool:
        """Note that a worker gets the task; False if the caller has cancelled it.

        The answer is why the two cannot both win: a task is either sent or cancelled.
        """
        if self._attempts == 0 and not self._claim():
            return False
        self._pid, self._started = pid, now
        self._attempts += 1
        self.lies = lies
        return True

    def take_back(self) -> None:
        """Unmake :meth:`handed_over`: the worker has not begun with it, and never will."""
        self._attempts -= 1
        if self._attempts == 0:
            self._pid = self._started = None
            self._unclaimed = True  # From here on it can be cancelled without asking,
        self.lies = False  # and until here by asking: at no moment is it neither.

    def note_start(self, at: float) -> None:
        """Note when the run began, of one that was handed over before that."""
        self._started = at

    def settle_returned(self, body: bytes | bytearray, now: float) -> None:
        """Settle with an encoded result."""
        self._settle(now, Box(body), None)

    def settle_raised(self, body: bytes | bytearray, now: float) -> None:
        """Settle with an encoded exception."""
        self._settle(now, None, Encoded(body))

    def settle_failed(self, error: BaseException, now: float) -> None:
        """Settle with an error of ours, unless the caller cancels it in this instant."""
        if self._attempts or self._claim():
            self._settle(now, None, error)
        else:
            self.finish_cancelling(now)

    def drop(self, now: float) -> None:
        """Cancel on behalf of the pool."""
        if self._attempts:
            # It was handed to a worker once, and waits again: too late to be cancelled.
            self.settle_failed(PoolClosed("the task was dropped when the pool ended"), now)
        else:
            self._claim()
            self.finish_cancelling(now)

    def finish_cancelling(self, now: float) -> None:
        """Make a future that is claimed for it cancelled.

        Also called after one who claimed it, and may have been interrupted before this.
        """
        if self._ended is None:
            self._ended = now
        self._become(_base.CANCELLED_AND_NOTIFIED)

    def _settle(self, now: float, result: Any, error: BaseException | None) -> None:
        if self._outcome is not None:
            return
        # Whoever has read the answer and the supervisor may both come here: the first counts, and
        # either can complete it.
        held = self.__dict__.setdefault("_held", (now, result, error))
        self._ended, self._result, self._exception = held
        self._become(_base.FINISHED)

    def _become(self, outcome: str) -> None:
        self._outcome = outcome
        self.__dict__.setdefault("_condition", NO_LOCK)
        self.__dict__.pop("_turn", None)  # It keeps a socket open.

    @property
    def refusal(self) -> BaseException | None:
        """What it has failed with, unless that comes from the worker, and is encoded."""
        return None if isinstance(self._exception, Encoded) else self._exception

    @property
    def has_audience(self) -> bool:
        """Whether anybody is to be told of the settlement who does not wait in ``result()``."""
        return "_callbacks" in self.__dict__ or self.has_waiters

    @property
    def has_waiters(self) -> bool:
        """Whether ``wait()`` or one like it saw the future unsettled; to be asked once it is."""
        # Whoever settles it may have been stopped just before the last step of that.
        return self.__dict__.setdefault("_condition", NO_LOCK) is not NO_LOCK

    def tell_waiters(self) -> None:
        """Tell those. *Threads:* those that may wait for locks of the user's; any number of times.

        Not as ``set_result()`` does, which settles and calls the callbacks too.
        """
        with self._condition:
            if self._told:
                return
            self._told = True
            for waiter in self._waiters:
                if self.cancelled():
                    waiter.add_cancelled(self)
                elif self._exception is None:
                    waiter.add_result(self)
                else:
                    waiter.add_exception(self)

    def _claim(self) -> bool:
        # Decides between dispatch and cancel.
        return self.__dict__.pop("_unclaimed", False) is True

    def next_callback(self) -> Callable[[Any], object] | None:
        """Take a callback of a settled future, which the taker has to call; None if none is left.

        *Threads:* any; each callback is taken once.
        """
        callbacks: deque[Callback] = self.__dict__.get("_callbacks", _NOBODY)
        try:
            return callbacks.popleft().function
        except IndexError:
            return None
