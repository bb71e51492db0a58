"""How ``warmpool map`` tells what it is doing, on standard error.

`Quiet` says only what went wrong with the command itself, `Lines` adds a line now and then, `Bar`
draws a bar on a terminal. All are used from one thread and draw only when they are called.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

_LINE_INTERVAL = 5.0
_BAR_INTERVAL = 0.1
_RATE_SPAN = 5.0


class Stream(Protocol):
    """Where progress is shown."""

    def write(self, text: str, /) -> int:
        """Write text."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there is to show at one moment.

    Attributes:
        done: How many items are done, failed ones included.
        failed: How many items failed.
        fraction: How much of the input is done, None where its size is not known.
        health: The pool's health, in a word.
        workers: The number of workers by state.
    """

    done: int
    failed: int
    fraction: float | None
    health: str
    workers: Mapping[str, int]


class Rate:
    """Items per second over the last few seconds."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def measure(self, now: float, done: int) -> float:
        """Return the rate, given that `done` items are done at the time `now`."""
        marks = self._marks
        marks.append((now, done))
        while len(marks) > 2 and marks[1][0] <= now - _RATE_SPAN:
            marks.popleft()
        (start, before), span = marks[0], now - marks[0][0]
        return (done - before) / span if span > 0 and now > start else 0.0


class Quiet:
    """Says what went wrong with the command itself, and nothing else.

    Args:
        stream: Where.

    Attributes:
        interval: Seconds between two calls of `update`.
        shares_output: Whether the results appear on the same terminal.
    """

    interval = math.inf
    shares_output = False

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def update(self, snapshot: Snapshot) -> None:
        """Show the state of things."""

    def make_way(self) -> None:
        """Get ready for a result that is about to appear on the same terminal."""

    def say(self, text: str) -> None:
        """Show a message."""
        self._print(text)

    def stop(self) -> None:
        """Leave the terminal in order; once more does nothing."""

    def summarize(self, snapshot: Snapshot) -> None:
        """Show the final state."""

    def _print(self, text: str) -> None:
        self._stream.write(f"warmpool: {text}\n")


class Lines(Quiet):
    """Writes a plain line every few seconds, if anything has changed, and one at the end."""

    interval = _LINE_INTERVAL

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._start = time.monotonic()
        self._shown: Snapshot | None = None
        self._rate = Rate()

    def update(self, snapshot: Snapshot) -> None:
        text = _describe(snapshot, self._rate.measure(time.monotonic(), snapshot.done))
        if self._shown is not None and snapshot != self._shown:
            self._print(text)
        self._shown = snapshot

    def summarize(self, snapshot: Snapshot) -> None:
        self._print(_summarize(snapshot, time.monotonic() - self._start))


class Bar(Quiet):
    """Draws a bar on a terminal.

    Args:
        stream: The terminal.
        shares_output: Whether the results appear on the same terminal.

    Raises:
        ImportError: The library ``rich`` is not installed.
    """

    interval = _BAR_INTERVAL

    def __init__(self, stream: Stream, *, shares_output: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
        from rich.table import Column

        super().__init__(stream)
        terminal: Any = stream
        self.shares_output = shares_output
        self._start = time.monotonic()
        self._rate = Rate()
        self._console = Console(file=terminal)
        self._progress = Progress(
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            # One line, always: make_way() clears no more than that.
            TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
            console=self._console,
            auto_refresh=False,
            transient=True,
            expand=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=None)
        self._progress.start()

    def update(self, snapshot: Snapshot) -> None:
        self._progress.update(
            self._task,
            description=_describe(snapshot, self._rate.measure(time.monotonic(), snapshot.done)),
            completed=snapshot.fraction or 0.0,
            total=None if snapshot.fraction is None else 1.0,
            refresh=True,
        )

    def make_way(self) -> None:
        if not self.shares_output:
            return
        from rich.control import Control
        from rich.segment import ControlType

        self._console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))

    def say(self, text: str) -> None:
        self._console.print(f"warmpool: {text}", markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        self._progress.stop()

    def summarize(self, snapshot: Snapshot) -> None:
        self._print(_summarize(snapshot, time.monotonic() - self._start))


Progress = Quiet | Lines | Bar


def make_progress(
    stream: Stream, *, wanted: bool, from_terminal: bool, to_terminal: bool
) -> Progress:
    """Choose how to show the progress.

    Args:
        stream: Where to.
        wanted: Whether the user wants to see any.
        from_terminal: Whether the input is typed in: a bar would get in the way of that.
        to_terminal: Whether the results appear on a terminal.

    Returns:
        A bar where the stream is a terminal that can show one and ``rich`` is installed.
    """
    if not wanted:
        return Quiet(stream)
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    if not stream.isatty() or dumb or from_terminal:
        return Lines(stream)
    try:
        return Bar(stream, shares_output=to_terminal)
    except ImportError:
        return Lines(stream)


def _describe(snapshot: Snapshot, rate: float) -> str:
    items = f"{snapshot.done} done, {snapshot.failed} failed, {rate:.1f}/s"
    workers = ", ".join(f"{count} {state}" for state, count in snapshot.workers.items() if count)
    return f"{items} | workers: {workers or 'none'} | pool {snapshot.health}"


def _summarize(snapshot: Snapshot, seconds: float) -> str:
    rate = snapshot.done / seconds if seconds > 0 else 0.0
    failed = f", {snapshot.failed} failed" if snapshot.failed else ""
    return f"{snapshot.done} done{failed} in {seconds:.1f} s ({rate:.1f}/s)"
