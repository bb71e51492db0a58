"""A pool whose making is interrupted, or fails, leaves nothing behind."""

from __future__ import annotations

import errno
import multiprocessing
import os
import threading

import pytest

from tests.helpers.waiting import BOUND
from warmpool import WarmPool, lifetime

THREADS = ("callbacks", "launcher", "supervisor")


@pytest.fixture(params=THREADS)
def thread(request):
    return request.param


def break_start(monkeypatch, thread, error, *, after):
    real = threading.Thread.start

    def start(self):
        broken = self.name.endswith(thread)
        if after or not broken:
            real(self)
        if broken:
            raise error

    monkeypatch.setattr(threading.Thread, "start", start)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_interrupt_as_a_thread_is_started(monkeypatch, thread, after):
    break_start(monkeypatch, thread, KeyboardInterrupt(), after=after)
    with pytest.raises(KeyboardInterrupt):
        WarmPool(1, initializer=print, initargs=("warm",), name="interrupted")
    monkeypatch.undo()
    for desk in list(lifetime._running):
        if desk.name == "interrupted":
            assert desk.wait_ended(BOUND)


def test_no_thread_left(monkeypatch, thread):
    break_start(monkeypatch, thread, RuntimeError("can't start new thread"), after=False)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        WarmPool(1, initializer=print, initargs=("warm",))


def test_an_interrupt_after_the_opening(monkeypatch):
    real = lifetime.begin

    def begin(desk, grace):
        real(desk, grace)
        raise KeyboardInterrupt

    monkeypatch.setattr(lifetime, "begin", begin)
    with pytest.raises(KeyboardInterrupt):
        WarmPool(1, name="interrupted")
    for desk in list(lifetime._running):
        if desk.name == "interrupted":
            assert desk.wait_ended(BOUND)


def test_no_pool_is_made_while_the_interpreter_ends(monkeypatch):
    monkeypatch.setattr(lifetime, "_ending", os.getpid())
    with pytest.raises(RuntimeError, match="is ending"):
        WarmPool(1)


def test_a_host_out_of_descriptors_gets_back_those_of_the_initializer(monkeypatch):
    def none_left(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    lock = multiprocessing.get_context("spawn").Lock()
    monkeypatch.setattr("warmpool.loop.Waker.__init__", none_left)
    with pytest.raises(OSError, match="Too many open files"):
        WarmPool(1, start_method="spawn", initializer=print, initargs=(lock,))
