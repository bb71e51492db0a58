"""What a preload may leave behind that concerns whoever forks: as functions that are preloaded."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import sys
from multiprocessing import util
from typing import Any

from warmpool import early, preloading


def wait_no_time_for_sockets() -> None:
    socket.setdefaulttimeout(0.0)


def replace_sockets() -> None:
    """As PySocks does."""

    class OfStreamsOnly(socket.socket):
        def __init__(
            self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None
        ) -> None:
            if type not in (-1, socket.SOCK_STREAM, socket.SOCK_DGRAM):
                raise ValueError(f"a socket of type {type}")
            super().__init__(family, type, proto, fileno)

    socket.socket = OfStreamsOnly  # type: ignore[misc]


def _installed() -> early.Installed:
    frame = sys._getframe()
    while frame.f_code is not preloading.main.__code__:
        assert frame.f_back is not None
        frame = frame.f_back
    installed: early.Installed = frame.f_locals["installed"]
    return installed


def close_what_workers_exchange() -> None:
    """So that these numbers are the lowest free ones, and what is received next gets them."""
    installed = _installed()
    for number in (installed.lifeline, installed._stacks):
        os.close(number)


def ignore_deaths_from_the_first_fork_on() -> None:
    """Nobody can collect who dies then."""

    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    os.register_at_fork(after_in_parent=ignore)


def allow_few_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))


def make_sessions() -> None:
    """Each process of multiprocessing's gets a session of its own."""
    util.register_after_fork(os, lambda _module: os.setsid())  # type: ignore[attr-defined]


_pipes: list[Any] = []


def have_signals_written() -> None:
    """Into one pipe, by all that are forked here."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETFL, os.O_NONBLOCK)
    signal.set_wakeup_fd(writing)
    _pipes.append((reading, writing))


def close_a_number_in_every_second_fork() -> None:
    """A stale one, that a fork's own end of something has got since."""
    from warmpool import forker

    real = forker.socket.socketpair
    latest: list[int] = []

    def pair() -> tuple[socket.socket, socket.socket]:
        ours, theirs = real()
        latest[:] = [ours.fileno()]
        return ours, theirs

    forker.socket.socketpair = pair  # type: ignore[assignment]
    forks: list[int] = []

    def close() -> None:
        if len(forks) % 2 == 0:
            os.close(latest[0])

    os.register_at_fork(before=lambda: forks.append(latest[0]), after_in_child=close)


def wakeup_descriptor() -> int:
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    return before


HARMLESS = (
    wait_no_time_for_sockets,
    replace_sockets,
    close_what_workers_exchange,
    ignore_deaths_from_the_first_fork_on,
    allow_few_descriptors,
    make_sessions,
    have_signals_written,
)
"""None of these costs a worker."""
