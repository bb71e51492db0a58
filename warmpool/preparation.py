"""What an interpreter of its own, or a fork server's child, is told before it is a worker.

``multiprocessing`` sends two pickles: how to prepare, which ends in the import of ``__main__``, and
the process object. What has to happen before any code of the user's is put into the first of them,
and so happens while that is unpickled.
"""

from __future__ import annotations

import os
import sys
from multiprocessing import spawn
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from warmpool import servers
from warmpool.early import Early


class Prepared(Protocol):
    """What a process gets, part of which comes before all else."""

    early: Early | None


def plain(process: BaseProcess, kind: type[BaseProcess], *ours: str) -> tuple[Any, ...]:
    """How a process object of ours is to be pickled: as one of ``multiprocessing``'s own.

    Its class is the host's side. To import that costs each worker milliseconds, and memory.

    Args:
        process: The object.
        kind: What it is in its own process.
        ours: The names of its attributes that stay here.
    """
    state = {name: value for name, value in vars(process).items() if name not in ours}
    return object.__new__, (kind,), state


class _Path:
    """Makes ``sys.path`` that of the host, or this package might not be found."""

    def __reduce__(self) -> tuple[Any, ...]:
        return spawn.prepare, ({"sys_path": list(sys.path)},)


def dump(popen: Any, process: Any, endpoints: Prepared) -> bytes:
    """Pickle all that a worker's process gets; descriptors are noted in the popen object."""
    early, endpoints.early = endpoints.early, None
    first: dict[str, Any] = {"warmpool": (_Path(), early)}
    preparation = spawn.get_preparation_data(process.name)
    # Of a program that came by standard input, multiprocessing makes a file's name of "<stdin>".
    path = preparation.get("init_main_from_path")
    if path is not None and not os.path.exists(path):
        del preparation["init_main_from_path"]
    return servers.dump(popen, {**first, **preparation}, process)
