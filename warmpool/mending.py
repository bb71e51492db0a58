"""What has to be mended in a copy of the host: locks of threads that were not copied.

A fork copies one thread and all the locks. What another thread held at that moment is held for
ever in the copy: a stream's lock by one that waits for the reader of its pipe, a module's by one
that imports it. ``threading``, ``logging`` and ``random`` mend theirs themselves.

All of it runs in the copy while it has one thread, but for :func:`others_import` and
:func:`flush_strange_streams`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import sys
import threading
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from typing import Any


def mend() -> None:
    """Make a copy of the host fit to live on."""
    _replace_stdin()
    _renew_output()
    _finish_imports()
    _be_the_main_thread()
    _mend_multiprocessing()
    # Nothing of the host's is garbage to the copy: its finalizers are not to run here, and pages
    # that the collector does not write to stay shared.
    gc.freeze()


# ------------------------------------------------------------------------------- streams

_parents_stdin: list[object] = []


def _replace_stdin() -> None:
    # multiprocessing closes sys.stdin in a new worker, and waits for ever for its lock if a thread
    # of the host was reading at the moment of the fork. So it gets another one to close, and the
    # host's is kept, since its destructor takes the lock too.
    _parents_stdin.append(sys.stdin)
    null = os.open(os.devnull, os.O_RDONLY)
    if null != 0:
        os.dup2(null, 0)
        os.close(null)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115


def _output_streams() -> Iterator[Any]:
    yield from {id(s): s for s in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)}.values()


def _is_plain(stream: object) -> bool:
    return isinstance(stream, io.TextIOWrapper)


def flush_strange_streams() -> None:
    """In the host: have streams that cannot be renewed in the copy write what they hold.

    Else it would come out twice. Of the others, the copy's text is dropped.
    """
    for stream in _output_streams():
        if stream is not None and not _is_plain(stream):
            with contextlib.suppress(Exception):
                stream.flush()


def _renew_output() -> None:
    for stream in _output_streams():
        if _is_plain(stream):
            # ValueError, OSError: closed, or its descriptor is.
            with contextlib.suppress(ValueError, OSError):
                _renew(stream)


def _renew(stream: io.TextIOWrapper) -> None:
    # In place, since loggers have references to it. A second __init__() makes a new lock, and
    # forgets the unwritten text, which is the host's to write.
    buffer = stream.buffer
    if type(buffer) is io.BufferedWriter:
        buffer.__init__(buffer.raw)  # type: ignore[misc]
    io.TextIOWrapper.__init__(
        stream,
        buffer,
        encoding=stream.encoding,
        errors=stream.errors,
        newline="\n",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


# ------------------------------------------------------------------------------- imports


def _module_locks() -> dict[str, Any]:
    bootstrap = getattr(importlib, "_bootstrap", None)
    locks: dict[str, Any] = getattr(bootstrap, "_module_locks", {})
    return locks


def others_import() -> bool:
    """Whether another thread holds a module's lock. *Threads:* any."""
    return any(
        lock is not None and getattr(lock, "owner", None) not in (None, threading.get_ident())
        for lock in [reference() for reference in list(_module_locks().values())]
    )


def _finish_imports() -> None:
    locks = _module_locks()
    me = threading.get_ident()
    for name, reference in list(locks.items()):
        lock = reference()
        specification = getattr(sys.modules.get(name), "__spec__", None)
        if getattr(specification, "_initializing", False):
            if getattr(lock, "owner", None) == me:
                # The pool is made while this module is imported. It stays as it is: to import it
                # again would make the pool again. Other threads must not wait for its end.
                specification._initializing = False  # type: ignore[union-attr]
            else:
                # Nobody will finish it: whoever needs it imports it anew.
                del sys.modules[name]
        # Made again when it is needed, and then nobody's.
        locks.pop(name, None)


# ------------------------------------------------------------------------------- the rest


def _be_the_main_thread() -> None:
    # A thread that is copied becomes the main thread, and keeps its name and daemonic nature, which
    # the threads of tasks would inherit.
    thread: Any = threading.main_thread()
    thread._daemonic = False
    thread._name = "MainThread"  # Not by its setter, which renames the process in 3.14.
    # At its end each worker would wait for the threads of executors; this may have been one.
    executors = sys.modules.get("concurrent.futures.thread")
    getattr(executors, "_threads_queues", {}).pop(thread, None)


def _mend_multiprocessing() -> None:
    # A thread of the host may have been at it. AttributeError: it is another version's.
    with contextlib.suppress(AttributeError):
        resource_tracker._resource_tracker._lock._at_fork_reinit()  # type: ignore[attr-defined]
    # The fork server that all of the host shares is no child of the copy, which could not even ask
    # whether it lives, and would keep it alive.
    server: Any = forkserver._forkserver
    alive = getattr(server, "_forkserver_alive_fd", None)
    if alive is not None:
        with contextlib.suppress(OSError):
            os.close(alive)
    preload = getattr(server, "_preload_modules", ["__main__"])
    server.__init__()
    server.set_forkserver_preload(preload)
