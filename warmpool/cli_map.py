"""The loop of ``warmpool map``: one thread, one ``poll``.

Input that can be read, output that can be written, the oldest task being done, a signal and the
next refresh of the progress are all reasons for the same ``poll`` to return, so none waits for
another. What bounds the memory is the window: items that are with the pool, or done and behind
one that is not. While it is full, no input is read.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

from warmpool.cli_io import (
    Input,
    Interrupted,
    Item,
    ResultNotJSON,
    failure_line,
    success_line,
)
from warmpool.cli_news import News
from warmpool.cli_output import FailuresFile, Output, Sink, write_out
from warmpool.errors import PoolBroken
from warmpool.progress import Progress, Snapshot

_CHECK_INTERVAL = 1.0
_LAST_WRITE_TIMEOUT = 0.3

Function = Callable[[Any], Any]


@dataclass
class Report:
    """How a run ended.

    Attributes:
        done: How many output lines were made.
        failed: How many of them are errors.
        unread: How many files could not be opened, or not be read to their end.
        signal: The signal that ended the run, None if none did.
        broken: Why the pool could not go on, None if it could.
    """

    done: int = 0
    failed: int = 0
    unread: int = 0
    signal: int | None = None
    broken: BaseException | None = None


class MapLoop:
    """Takes items from the input to the pool and their outcomes to the output, in order.

    Args:
        function: What is called with each item.
        executor: Where it is called.
        find_breakdown: Answers, quickly, why the pool cannot go on, None while it can.
        find_state: Answers with the pool's health and its number of workers by state.
        source: The items.
        output: Takes the lines.
        failures: Takes the failed items once more, None if nobody wants them.
        progress: Shows how it goes.
        window: How many items may be on their way at once.
        news: What happens elsewhere; ends the waiting.
    """

    def __init__(
        self,
        function: Function,
        executor: Executor,
        *,
        find_breakdown: Callable[[], BaseException | None],
        find_state: Callable[[], tuple[str, Mapping[str, int]]],
        source: Input,
        output: Output,
        failures: FailuresFile | None,
        progress: Progress,
        window: int,
        news: News,
    ) -> None:
        self._function = function
        self._executor = executor
        self._find_breakdown = find_breakdown
        self._find_state = find_state
        self._input = source
        self._output = output
        self._failures = failures
        self._sinks: tuple[Sink, ...] = (output,) if failures is None else (output, failures)
        self._progress = progress
        self._limit = window
        self._window: deque[tuple[Item, Future[Any]]] = deque()
        self._watched: Future[Any] | None = None
        self._next_check = 0.0
        self._next_refresh = 0.0
        self._end = 0
        self._report = Report()
        self._news = news
        self._poller = select.poll()
        self._interests: dict[int, int] = {}

    def run(self) -> Report:
        """Run until the input has ended and everything is written, or a signal comes.

        Raises:
            BrokenPipeError: Nobody reads the output any more.
            WriteFailed: An output cannot be written.
        """
        while self._news.signal is None:
            self._emit_done()
            self._fill()
            self._check()
            if not (self._window or self._wants_input or any(s.pending for s in self._sinks)):
                return self._report
            self._wait()
        self._report.signal = self._news.signal
        self._emit_interrupted()
        write_out(self._sinks, _LAST_WRITE_TIMEOUT)
        return self._report

    # ------------------------------------------------------------------ input → pool

    @property
    def _wants_input(self) -> bool:
        return self._report.broken is None and not self._input.ended

    def _fill(self) -> None:
        while self._wants_input and len(self._window) < self._limit:
            item = self._input.next_item()
            for problem in self._input.take_problems():
                self._report.unread += 1
                self._progress.say(problem)
            if item is None:
                return
            self._window.append((item, self._submit(item)))

    def _submit(self, item: Item) -> Future[Any]:
        error: Exception
        if item.error is not None:
            error = item.error
        else:
            try:
                return self._executor.submit(self._function, item.value)
            except Exception as refused:
                error = refused
                self._report.broken = self._find_breakdown()
        future: Future[Any] = Future()
        future.set_exception(error)
        return future

    # ------------------------------------------------------------------ pool → output

    @property
    def _has_room(self) -> bool:
        return all(sink.has_room for sink in self._sinks)

    def _emit_done(self) -> None:
        window = self._window
        while window and self._has_room and window[0][1].done():
            self._emit(*window.popleft())

    def _emit(self, item: Item, future: Future[Any]) -> None:
        error = future.exception()
        if error is None:
            try:
                self._output.add(success_line(item, future.result()))
            except ResultNotJSON as refused:
                error = refused
        if error is not None:
            self._report.failed += 1
            self._output.add(failure_line(item, error))
            if self._failures is not None:
                self._failures.add_failure(item, error)
            if isinstance(error, PoolBroken):
                self._next_check = 0.0
        self._report.done += 1
        self._end = item.end

    def _emit_interrupted(self) -> None:
        """Emit what is done, without gaps: so the n-th line still belongs to the n-th input."""
        while self._window and not self._window[-1][1].done():
            self._window.pop()
        for item, future in self._window:
            if not future.done():
                future = Future()
                future.set_exception(Interrupted("still running when the command was interrupted"))
            self._emit(item, future)
        self._window.clear()

    # ------------------------------------------------------------------ waiting

    def _check(self) -> None:
        """Look after the pool and the progress, each at its own interval."""
        for text in self._news.take_messages():
            self._progress.say(text)
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + _CHECK_INTERVAL
            if self._report.broken is None:
                self._report.broken = self._find_breakdown()
        if now >= self._next_refresh:
            self._next_refresh = now + self._progress.interval
            # On a terminal that shows both, the progress must not cut into a half-written line.
            if not (self._output.pending and self._progress.shares_output):
                self._progress.update(self.snapshot())

    def snapshot(self) -> Snapshot:
        """Return what the progress shows."""
        health, workers = self._find_state()
        total = self._input.total
        return Snapshot(
            done=self._report.done,
            failed=self._report.failed,
            fraction=min(self._end / total, 1.0) if total else None,
            health=health,
            workers=workers,
        )

    def _wait(self) -> None:
        output, news = self._output, self._news
        if self._window and self._has_room:
            oldest = self._window[0][1]
            if oldest is not self._watched:
                # Only the oldest can let the loop go on: one callback per wait, not per item.
                self._watched = oldest
                oldest.add_done_callback(news.wake)
        reading = self._input.fd if len(self._window) < self._limit and self._wants_input else None
        # Without POLLOUT too, poll tells when the last reader of a pipe has gone.
        interests = {sink.fd: select.POLLOUT if sink.pending else 0 for sink in self._sinks}
        interests[news.fd] = select.POLLIN
        if reading is not None:
            interests[reading] = select.POLLIN
        self._register(interests)
        now = time.monotonic()
        timeout = max(0.0, min(self._next_check, self._next_refresh) - now)
        ready = dict(self._poller.poll(timeout * 1000))
        if news.fd in ready:
            news.clear()
        if output.fd in ready:
            if not output.pending:
                raise BrokenPipeError
            self._progress.make_way()
            output.write_some()
        if (failures := self._failures) is not None and failures.fd in ready:
            failures.write_some()
        if reading is not None and reading in ready:
            self._input.read()

    def _register(self, interests: dict[int, int]) -> None:
        if interests == self._interests:
            return
        for fd in self._interests.keys() - interests.keys():
            self._poller.unregister(fd)
        for fd, mask in interests.items():
            self._poller.register(fd, mask)
        self._interests = interests
