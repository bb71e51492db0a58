"""``warmpool top``: every pool of this user on this machine that is published, live."""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from warmpool.cli_arguments import UsageError
from warmpool.failures import size_text
from warmpool.watching import Host, Published, look

_NOBODY = "no pool is published here; make one with WarmPool(..., monitor=True)"
_MOST_WORKERS = 40
"""Lines for the workers of one pool."""


class Rates:
    """Tasks per second of each pool, from one look to the next."""

    def __init__(self) -> None:
        self._before: dict[object, tuple[float, int]] = {}

    def measure(self, published: Published) -> float | None:
        """The rate since the last snapshot but this; None at the first."""
        now, settled = published.facts["at"], published.settled
        at, before = self._before.get(published.key, (now, settled))
        if now > at or published.key not in self._before:
            self._before[published.key] = now, settled
        return (settled - before) / (now - at) if now > at else None


def lines(found: Iterable[Published], rates: Rates) -> Iterator[str]:
    """What is shown, line by line."""
    nobody = True
    for published in found:
        nobody = False
        yield from _pool(published, rates.measure(published))
        yield ""
    if nobody:
        yield _NOBODY


def _pool(published: Published, rate: float | None) -> Iterator[str]:
    facts = published.facts
    host = published.host.value
    if published.host is Host.GONE:
        host = f"died, last seen {_age(published.age)} ago"
    elif published.host is not Host.LIVE:
        host = f"{host} for {_age(published.age)}"
    yield (
        f"{facts['pool']}  {facts['health'].upper()}  pid {facts['pid']} {host}  "
        f"{facts['start_method']}  {len(facts['details'])} of {facts['max_workers']} workers"
    )
    settled = ", ".join(f"{count} {how}" for how, count in facts["tasks_settled"].items())
    exits = ", ".join(f"{count} {why}" for why, count in facts["worker_exits"].items())
    per_second = "" if rate is None else f", {rate:.1f}/s"
    yield (
        f"  tasks: {facts['queued']} queued, {facts['running']} running, {settled or 'none done'}"
        f"{per_second}"
    )
    yield f"  gone: {exits or 'nobody'}; cold starts: {facts['cold_starts']}"
    if facts["details"]:
        yield "  worker      pid  state          for      age  done     memory  task"
    for worker in facts["details"][:_MOST_WORKERS]:
        yield _worker(published, worker)
    if len(facts["details"]) > _MOST_WORKERS:
        yield f"  and {len(facts['details']) - _MOST_WORKERS} more"


def _worker(published: Published, worker: dict[str, object]) -> str:
    def number(name: str) -> float:
        value = worker[name]
        return float(value) if isinstance(value, (int, float)) else 0.0

    # As of now, if the worker may be taken to be as it was.
    late = published.age if published.host is not Host.GONE else 0.0
    memory = published.memory.get(int(number("pid")))
    task = "" if worker["task"] is None else f"{worker['task']} {worker['task_name'] or ''}"
    return (
        f"  {worker['id']!s:>6}  {worker['pid'] or ''!s:>7}  {worker['state']!s:<12}"
        f"{_age(number('in_state') + late):>6}  {_age(number('uptime') + late):>7}"
        f"  {worker['tasks_done']!s:>4}  {'' if memory is None else size_text(memory):>9}  {task}"
    ).rstrip()


def _age(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"


def run(arguments: argparse.Namespace) -> int:
    """Show it.

    Raises:
        UsageError: It cannot be shown in the way that is asked for.
    """
    try:
        if arguments.json:
            print(json.dumps([_document(published) for published in look()]))
        elif arguments.once:
            print("\n".join(lines(look(), Rates())).rstrip())
        else:
            _live(arguments.interval)
    except PermissionError as error:
        raise UsageError(str(error)) from None
    except KeyboardInterrupt:
        pass  # The usual way to leave it.
    return 0


def _document(published: Published) -> dict[str, object]:
    return {
        **published.facts,
        "host": published.host.value,
        "age": published.age,
        "memory": {str(pid): size for pid, size in published.memory.items()},
    }


def _live(interval: float) -> None:
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
    rates = Rates()
    with _keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            shown = [time.strftime("warmpool top  %H:%M:%S  (q: leave)"), "", *lines(look(), rates)]
            room = max(1, console.size.height - 1)
            live.update(
                Text("\n".join(shown[:room]), no_wrap=True, overflow="ellipsis"), refresh=True
            )
            if _is_to_leave(keys, interval):
                return


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
