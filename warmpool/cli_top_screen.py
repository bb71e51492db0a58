"""The live view of ``warmpool top``: draws on a terminal, listens to keys, puts it back in order.

No signal raises anything in here, since it could hit the very lines that give the terminal back. It
is noted, and ends the wait for a key.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from types import FrameType
from typing import Any

from warmpool.cli_arguments import UsageError
from warmpool.cli_news import News
from warmpool.cli_top_view import Line

_LONGEST = 3600.0
"""Seconds; what poll() takes has a bound."""
_HALF_A_SCREEN = 1000
_SCROLL = {
    b"\x1b[A": -1,
    b"\x1bOA": -1,
    b"k": -1,
    b"\x1b[B": 1,
    b"\x1bOB": 1,
    b"j": 1,
    b"\x1b[5~": -_HALF_A_SCREEN,
    b"\x1b[6~": _HALF_A_SCREEN,
    b" ": _HALF_A_SCREEN,
}
_KEY = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)
_LEAVE = (b"q", b"Q", b"\x04")
_STYLES = {"title": "bold", "alarm": "bold red", "dim": "dim", "": ""}


def watch(interval: float, look: Callable[[], Sequence[Line]]) -> int:
    """Show what there is until the user leaves, or a signal says so.

    Args:
        interval: Seconds between two looks.
        look: Finds out what there is.

    Returns:
        The exit status.

    Raises:
        UsageError: There is no terminal, or no ``rich``.
    """
    with closing(News()) as news, news.noting_signals():
        screen = _Screen(news)
        try:
            # The terminal may go, and with it whoever wanted to see this.
            with contextlib.suppress(OSError), _noting_the_rest(screen):
                screen.enter()
                shown = look()
                again_at = time.monotonic() + interval
                while screen.goes_on(again_at):
                    if time.monotonic() >= again_at:
                        shown = look()
                        again_at = time.monotonic() + interval
                    screen.draw(shown)
        finally:
            screen.leave()
        # Ctrl-C is one of the usual ways to leave.
        return 0 if news.signal in (None, signal.SIGINT) else 128 + news.signal


class _Screen:
    """The terminal.

    Attributes:
        is_to_stop: Whether Ctrl-Z was noted.

    Args:
        news: Where signals are noted.
    """

    def __init__(self, news: News) -> None:
        try:
            from rich.console import Console
            from rich.live import Live
        except ImportError:
            raise UsageError(
                "the live view needs an extra: pip install 'warmpool-executor[cli]'; without it "
                "there are --once and --json"
            ) from None
        # Not by what rich thinks of it: FORCE_COLOR makes everything a terminal.
        if sys.stdout is None or not sys.stdout.isatty():
            raise UsageError(
                "the live view needs a terminal; elsewhere there are --once and --json"
            )
        self.is_to_stop = False
        self._news = news
        self._console = Console(file=sys.stdout, force_terminal=True)
        if self._console.is_dumb_terminal:
            raise UsageError("the live view needs a terminal that is not dumb; there is --once")
        self._live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._keys = None if sys.stdin is None or not sys.stdin.isatty() else sys.stdin.fileno()
        self._mode: list[Any] | None = None
        self._top = 0
        self._is_first = True

    def enter(self) -> None:
        """Take the terminal: another screen, and keys one by one."""
        if self._keys is not None:
            import termios
            import tty

            self._mode = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys, termios.TCSADRAIN)
        self._live.start()
        self._is_first = True

    def leave(self) -> None:
        """Give it back as it was. Once more does nothing."""
        with contextlib.suppress(OSError):  # It has been hung up.
            self._live.stop()
        if self._mode is not None:
            import termios

            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._keys or 0, termios.TCSADRAIN, self._mode)
            self._mode = None

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these, as many as there is room for."""
        from rich.text import Text

        room = max(1, self._console.size.height - 2)
        self._top = max(0, min(self._top, len(lines) - room))
        shown = lines[self._top : self._top + room]
        where = ""
        if len(shown) < len(lines):
            where = f"; lines {self._top + 1} to {self._top + len(shown)} of {len(lines)}"
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(time.strftime(f"warmpool top  %H:%M:%S  (q: leave{where})\n\n"), "dim")
        for line in shown:
            text.append(f"{line.text}\n", _STYLES[line.tone])
        text.right_crop(1)
        self._live.update(text, refresh=True)

    def goes_on(self, until: float) -> bool:
        """Wait for a reason to draw again, until then (monotonic); False: it is over."""
        if self._is_first:
            self._is_first = False
            return self._news.signal is None
        poll = select.poll()
        poll.register(self._news.fd, select.POLLIN)
        if self._keys is not None:
            poll.register(self._keys, select.POLLIN)
        left = min(max(0.0, until - time.monotonic()), _LONGEST)
        ready = dict(poll.poll(left * 1000))
        if self._news.fd in ready:
            self._news.clear()
        if self._news.signal is not None:
            return False
        if self.is_to_stop:
            self._stop()
            return True
        return self._keys not in ready or self._hear_keys()

    def _hear_keys(self) -> bool:
        assert self._keys is not None
        try:
            data = os.read(self._keys, 256)
        except OSError:
            data = b""
        keys = _KEY.findall(data)
        for key in keys:
            step = _SCROLL.get(key, 0)
            if abs(step) == _HALF_A_SCREEN:
                step = max(1, self._console.size.height // 2) * (1 if step > 0 else -1)
            self._top += step
        # Nothing to be read: the terminal has gone.
        return bool(keys) and not any(key in _LEAVE for key in keys)

    def _stop(self) -> None:
        """Stop this process, as its terminal wishes, and go on when it is continued."""
        self.is_to_stop = False
        self.leave()
        # Not SIGSTOP: where there is no shell that could continue it, the kernel ignores this one.
        before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, before)
        self.enter()


@contextmanager
def _noting_the_rest(screen: _Screen) -> Iterator[None]:
    """Note Ctrl-Z and a change of the terminal's size."""

    def note(signum: int, _frame: FrameType | None) -> None:
        # The news are woken by the interpreter.
        screen.is_to_stop = screen.is_to_stop or signum == signal.SIGTSTP

    noted = [
        each
        for each in (signal.SIGTSTP, signal.SIGWINCH)
        if signal.getsignal(each) is not signal.SIG_IGN
    ]
    before = {each: signal.signal(each, note) for each in noted}
    try:
        yield
    finally:
        for each, action in before.items():
            signal.signal(each, action)
