"""Real input for a first try of the command line; the README shows it.

``python -m warmpool.demo`` prints the path of every Python file of the installed standard library,
with two troublemakers thrown in: one input that hangs, and one that kills its worker.
"""

from __future__ import annotations

import ast
import itertools
import os
import signal
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path

HANG = "<hang>"
KILL = "<kill>"


def inputs() -> Iterator[str]:
    """The files of the standard library, the troublemakers among the first of them."""
    library = Path(sysconfig.get_path("stdlib"))
    files = (
        str(path)
        for path in sorted(library.rglob("*.py"))
        if not {"site-packages", "dist-packages"} & set(path.parts)
    )
    yield from itertools.islice(files, 20)
    yield HANG
    yield from itertools.islice(files, 20)
    yield KILL
    yield from files


def count_nodes(path: str) -> int:
    """The number of nodes in the syntax tree of a file.

    Raises:
        SyntaxError: It does not parse; some of the library's tests are not meant to.
        OSError: It cannot be read.
    """
    if path == HANG:
        threading.Event().wait()
    if path == KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    return sum(1 for _ in ast.walk(ast.parse(Path(path).read_bytes())))


def main() -> None:
    """Print the inputs, one on a line."""
    for path in inputs():
        print(path)


if __name__ == "__main__":
    main()
