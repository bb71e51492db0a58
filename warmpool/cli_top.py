"""``warmpool top``: every pool of this user on this machine that is published, live or at once."""

from __future__ import annotations

import argparse
import json
import os
import sys

from warmpool.cli_arguments import UsageError
from warmpool.cli_top_screen import watch
from warmpool.cli_top_view import lines
from warmpool.watching import Published, look

_FAILED = 1


def run(arguments: argparse.Namespace) -> int:
    """Show it.

    Returns:
        The exit status.

    Raises:
        UsageError: It cannot be shown in the way that is asked for.
        BrokenPipeError: Nobody reads the output any more.
        KeyboardInterrupt: Ctrl-C before all was written, or the live view was there.
    """
    if arguments.json:
        text = json.dumps([_document(published) for published in _look()])
    elif arguments.once:
        text = "\n".join(line.text for line in lines(_look()))
    else:
        return watch(arguments.interval, lambda: lines(_look()))
    return _print(text)


def _look() -> list[Published]:
    try:
        return look()
    except OSError as error:
        raise UsageError(str(error)) from None


def _document(published: Published) -> dict[str, object]:
    processes = published.processes.items()
    return {
        **published.facts,
        "host": published.host.value,
        "age": published.age,
        "memory": {str(pid): process.memory for pid, process in processes},
        "status": {str(pid): process.status for pid, process in processes},
    }


def _print(text: str) -> int:
    if sys.stdout is None:
        raise UsageError("standard output is closed")
    rest = f"{text}\n".encode(sys.stdout.encoding, "backslashreplace")
    try:
        # Not by print(): what is left in its buffer after an error is tried again at the very end.
        while rest:
            rest = rest[os.write(sys.stdout.fileno(), rest) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"warmpool: cannot write standard output: {error.strerror}", file=sys.stderr)
        return _FAILED
    return 0
