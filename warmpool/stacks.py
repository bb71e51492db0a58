"""What ``faulthandler`` writes, read by people: is it all there, where did it hang. Pure.

It writes one thread after the other, the main thread last, each from its innermost frame to its
outermost, and nothing at the end.
"""

from __future__ import annotations

import itertools
import re

_OUTERMOST = ("in <module>", "in _run_module_as_main", "in _bootstrap", "  ...")
"""How the last line of a thread ends: a script, or ``python -m`` (under ``fork`` a worker has the
frames of its host), a thread, more than a hundred frames."""

_THREAD = re.compile(r"^(?:Current thread|Thread) 0x\w+.*$", re.MULTILINE)
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)$', re.M)
_OURS = re.compile(
    r'^  File ".*warmpool[/\\](?:child|each|early|endpoint|preloading)\.py"', re.MULTILINE
)


def looks_complete(text: str) -> bool:
    """Whether the text may end here; that it also grows no more is for the caller to see."""
    last = text.rstrip("\n").rpartition("\n")[2]
    return text.endswith("\n") and last.endswith(_OUTERMOST)


def tidy(text: str) -> str:
    """Leave out what tells its reader nothing: our own threads, and the frames that call a task."""
    head, *threads = _split(text)
    kept = []
    for thread in threads:
        first = _FRAME.search(thread)
        if first is not None and _OURS.match(first[0]) and first["function"] == "_follow_host":
            continue
        ours = _OURS.search(thread)
        # A thread that is in our frames alone (between tasks, say) is shown as it is.
        callers = ours is not None and first is not None and ours.start() > first.start()
        kept.append(thread[: ours.start()] if callers and ours is not None else thread)
    return (head + "\n".join(thread.rstrip() + "\n" for thread in kept)).strip() + "\n"


def where(text: str) -> str | None:
    """The innermost frame of the main thread, in a few words; None if there is none."""
    _, *threads = _split(text)
    frame = _FRAME.search(threads[-1]) if threads else None
    if frame is None:
        return None
    return f"{frame['function']}() at {frame['file']}:{frame['line']}"


def _split(text: str) -> list[str]:
    """What stands before the threads, then each thread."""
    starts = [match.start() for match in _THREAD.finditer(text)]
    cuts = [0, *starts, len(text)]
    return [text[a:b] for a, b in itertools.pairwise(cuts)]
