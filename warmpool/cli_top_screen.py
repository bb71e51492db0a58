"""The live view of ``warmpool top``."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from warmpool.cli_arguments import UsageError
from warmpool.cli_top_view import Line


def watch(interval: float, look: Callable[[], Sequence[Line]]) -> int:
    """Show what there is until the user leaves.

    Args:
        interval: Seconds between two looks.
        look: Finds out what there is.

    Returns:
        The exit status.

    Raises:
        UsageError: There is no terminal, or no ``rich``.
    """
    try:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text
    except ImportError:
        raise UsageError(
            "the live view needs an extra: pip install 'warmpool-executor[cli]'; without it there "
            "are --once and --json"
        ) from None
    console = Console()
    if not console.is_terminal:
        raise UsageError("the live view needs a terminal; elsewhere there are --once and --json")
    live = Live(console=console, screen=True, auto_refresh=False)
    with suppress(KeyboardInterrupt), _keys() as keys, live:
        while True:
            title = time.strftime("warmpool top  %H:%M:%S  (q: leave)")
            shown = [title, "", *(line.text for line in look())]
            room = max(1, console.size.height - 1)
            live.update(
                Text("\n".join(shown[:room]), no_wrap=True, overflow="ellipsis"), refresh=True
            )
            if _is_to_leave(keys, interval):
                break
    return 0


def _is_to_leave(keys: int | None, interval: float) -> bool:
    give_up_at = time.monotonic() + interval
    while (left := give_up_at - time.monotonic()) > 0:
        ready, _, _ = select.select([] if keys is None else [keys], [], [], left)
        if ready and keys is not None and os.read(keys, 1) in (b"q", b"Q", b"\x04", b""):
            return True
    return False


@contextmanager
def _keys() -> Iterator[int | None]:
    """Have keys come one by one, if they come from a terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield None
        return
    import termios
    import tty

    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    tty.setcbreak(keys)
    try:
        yield keys
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)
