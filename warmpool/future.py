"""The future of a task: settled once by the supervisor, decoded by whoever asks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from warmpool import payload
from warmpool.answer import may_wait
from warmpool.callbacks import logger
from warmpool.errors import PayloadError, PoolClosed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """What is known of a task. Times are of ``time.monotonic()``, in seconds.

    Attributes:
        pid: The worker that runs or ran it last, None if none did.
        queued: When it was submitted.
        started: When it was last handed to a worker, None if it was not.
        ended: When it was settled, None if it is not.
        attempts: How often it was handed to a worker.
    """

    pid: int | None
    queued: float
    started: float | None
    ended: float | None
    attempts: int


class TaskControl(Protocol):
    """What a future asks of its supervisor. No call blocks."""

    is_foreign: bool
    """Whether the supervisor is in another process, of which this one is a fork."""

    def cancelled(self, task: int) -> None:
        """The future is cancelled: forget the task."""

    def kill(self, task: int) -> None:
        """Kill the worker that runs the task, or drop it from the queue."""


class _Box:
    """Holds an encoded result until it is decoded, and then nothing."""

    __slots__ = ("body",)

    def __init__(self, body: bytes | bytearray) -> None:
        self.body: bytes | bytearray = body


class _Encoded(Exception):
    """Stands for what the task raised, until somebody asks.

    A future has to be failed with an exception at once, for ``concurrent.futures.wait()`` to
    notice; but unpickling is user code, and not for the supervisor's thread (I2).
    """

    def __init__(self, body: bytes | bytearray) -> None:
        super().__init__()
        self.body = body


class _Callback:
    """Compared by identity, whatever the function's ``__eq__`` thinks."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[Any], object]) -> None:
        self.function = function


class TaskFuture(Future[T], Generic[T]):
    """A ``concurrent.futures.Future`` of a task, which can also be killed.

    ``exception()`` returns, and ``result()`` raises, what the task raised, with a
    :class:`~warmpool.RemoteTraceback` as its cause, or a :class:`~warmpool.WarmpoolError`.

    A result that cannot be unpickled is found out by the first who asks for it; until then
    ``concurrent.futures.wait(return_when=FIRST_EXCEPTION)`` takes it for a success.
    """

    _started: float | None = None
    _ended: float | None = None
    _pid: int | None = None
    _attempts = 0
    _verdict: tuple[Any, BaseException | None] | None = None

    def __init__(self, control: TaskControl, task: int, queued: float) -> None:
        super().__init__()
        self._unclaimed = True
        self._task = task
        self._control = control
        self._queued = queued

    # ------------------------------------------------------------------ for callers

    @property
    def info(self) -> TaskInfo:
        """When and where the task ran. *Threads:* any; never blocks."""
        return TaskInfo(self._pid, self._queued, self._started, self._ended, self._attempts)

    def kill(self) -> bool:
        """Kill the task: its worker with SIGKILL, or, while it waits, cancel it.

        The future fails with :class:`~warmpool.WorkerDied` soon after, unless the task was faster.

        Returns:
            Whether the task was unfinished. *Threads:* any; does not block.
        """
        if self.cancel():
            return True
        if self.done():
            return False
        self._control.kill(self._task)
        return True

    def cancel(self) -> bool:
        """Cancel the task if it has not been handed to a worker; see ``kill()``.

        *Threads:* any; callbacks run in the caller's.
        """
        if not self._claim():
            return self.cancelled()
        callbacks = self.finish_cancelling()
        self._control.cancelled(self._task)
        for function in callbacks:
            self._call(function)
        return True

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

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Call ``fn(self)`` once the future is settled or cancelled.

        *Threads:* any. The call comes on a thread of the pool, not the supervisor's; at once in
        the caller's if the future is settled already, and in the canceller's if it is cancelled.
        What it raises is logged.
        """
        callback = _Callback(fn)
        # Made by the first who needs it; atomic, as every step here has to be. Most futures never
        # need one.
        callbacks: deque[_Callback] = self.__dict__.setdefault("_callbacks", deque())
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

    def _decide(self, timeout: float | None) -> tuple[Any, BaseException | None]:
        if self._control.is_foreign:
            raise PoolClosed(
                "this future belongs to the process that made it: in a fork of that nobody will "
                "settle it"
            )
        if not (may_wait() or self.done()):
            raise RuntimeError("a finalizer on a supervisor's thread may not wait for a future")
        error: BaseException | None = None
        box: Any = None
        try:
            box = super().result(timeout)
        except BaseException as caught:
            # What the future holds, and not what interrupted the wait for it.
            if not self.done() or self.cancelled() or super().exception() is not caught:
                raise
            error = caught
        with self.__dict__.setdefault("_decoding", threading.RLock()):
            if self._verdict is None:
                if isinstance(error, _Encoded):
                    self._verdict = None, payload.load_error(error.body)
                    error.body = b""
                elif error is not None:
                    self._verdict = None, error.with_traceback(None)
                else:
                    self._verdict = _decode(box)
            return self._verdict

    # ------------------------------------------------------------------ for the supervisor

    def handed_over(self, pid: int | None, now: float) -> bool:
        """Note that a worker gets the task; False if the caller has cancelled it.

        The answer is why the two cannot both win: a task is either sent or cancelled.
        """
        if self._attempts == 0:
            if not self._claim():
                return False
            if self.try_lock():
                try:
                    self.set_running_or_notify_cancel()
                finally:
                    self.unlock()
        self._pid, self._started = pid, now
        self._attempts += 1
        return True

    def settle_returned(
        self, body: bytes | bytearray, now: float
    ) -> Sequence[Callable[[Any], object]]:
        """Settle with an encoded result, and give the callbacks to be called."""
        self._ended = now
        return self._settle(self.set_result, _Box(body))

    def settle_raised(
        self, body: bytes | bytearray, now: float
    ) -> Sequence[Callable[[Any], object]]:
        """Settle with an encoded exception, and give the callbacks to be called."""
        self._ended = now
        return self._settle(self.set_exception, _Encoded(body))

    def settle_failed(self, error: BaseException, now: float) -> Sequence[Callable[[Any], object]]:
        """Settle with an error of ours, and give the callbacks to be called."""
        self._ended = now
        return self._settle(self.set_exception, error)

    def drop(self, now: float) -> Sequence[Callable[[Any], object]]:
        """Cancel on behalf of the pool, and give the callbacks to be called."""
        self._ended = now
        if self._attempts and not self.cancelled():
            # It was handed to a worker once, and waits again: too late to be cancelled.
            return self.settle_failed(PoolClosed("the task was dropped when the pool ended"), now)
        self._claim()
        return self.finish_cancelling()

    def finish_cancelling(self) -> Sequence[Callable[[Any], object]]:
        """Make a future that is claimed for it cancelled, and give the callbacks to be called.

        Also called after one who claimed it, and may have been interrupted before this.
        """
        with self._condition:
            super().cancel()
            if self._state == "CANCELLED":
                # Those who wait for several futures count a cancelled one once it is notified.
                self.set_running_or_notify_cancel()
        return self._taken()

    def _claim(self) -> bool:
        # One atomic step decides between dispatch and cancel, without the future's lock: that is
        # also held by whoever waits, and the supervisor's thread waits for nobody (I3).
        return self.__dict__.pop("_unclaimed", False) is True

    def try_lock(self) -> bool:
        """Take the future's lock, unless that would have to be waited for.

        ``result()`` and ``concurrent.futures.wait()`` hold it for moments in the user's threads;
        a signal handler that runs in such a moment may wait for the supervisor.
        """
        taken: bool = self._condition.acquire(blocking=False)
        return taken

    def unlock(self) -> None:
        """Give it back."""
        self._condition.release()

    def running(self) -> bool:
        """Whether a worker has the task."""
        return self._attempts > 0 and not self.done()

    def _settle(
        self, setter: Callable[[Any], None], answer: Any
    ) -> Sequence[Callable[[Any], object]]:
        try:
            setter(answer)
        except InvalidStateError:
            return []  # Cancelled by the caller in the same instant: answered.
        return self._taken()

    def _taken(self) -> Sequence[Callable[[Any], object]]:
        callbacks: deque[_Callback] | None = self.__dict__.get("_callbacks")
        taken: list[Callable[[Any], object]] = []
        while callbacks:
            try:
                taken.append(callbacks.popleft().function)
            except IndexError:
                break  # Emptied by another thread in this instant.
        return taken


def _decode(box: Any) -> tuple[Any, BaseException | None]:
    try:
        value = payload.loads(box.body)
    except (Exception, SystemExit) as error:
        # KeyboardInterrupt passes: it is for this thread, and the next who asks tries again.
        failure = PayloadError(
            f"the task's result could not be unpickled here: {type(error).__name__}: {error}"
        )
        failure.__cause__ = error
        box.body = b""
        return None, failure
    box.body = b""
    return value, None
