"""A Ctrl-C at each line, one after the other, of what the main thread does in this library."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from types import FrameType
from typing import Any

import pytest

import warmpool
from tests.helpers.gate import Gate, hold
from tests.helpers.waiting import BOUND, until
from warmpool import WarmPool, lifetime

HERE = warmpool.__file__.rpartition("/")[0]


_EXEMPT = {"__del__", "forget_pool", "_Descriptor.__init__"}
"""Destructors and finalizers, whose exceptions the interpreter swallows; and the one place where a
number has just become a descriptor's owner."""


def _is_exempt(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_qualname.rpartition(">.")[2] in _EXEMPT or (
            frame.f_code.co_name in _EXEMPT
        ):
            return True
        frame = frame.f_back
    return False


class Interrupter:
    """Raises KeyboardInterrupt at the n-th line that a thread runs in the library's modules."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.where: str | None = None

    def __enter__(self) -> Interrupter:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _arg: Any) -> Any:
        ours = frame.f_code.co_filename.startswith(HERE) and not _is_exempt(frame)
        if not ours:
            return None
        if event == "line":
            self._left -= 1
            if self._left < 0:
                sys.settrace(None)
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self._trace


def interrupted(action: Callable[[], object], at: int) -> str | None:
    """Where the action was interrupted, None if it has fewer lines than that."""
    interrupter = Interrupter(at)
    try:
        with interrupter:
            action()
    except KeyboardInterrupt:
        pass
    return interrupter.where


def every_line(action: Callable[[], object], check: Callable[[], object]) -> int:
    """Interrupt an action everywhere; how many places that were."""
    places: set[str] = set()
    at = 0
    while (where := interrupted(action, at)) is not None:
        places.add(where)
        try:
            check()
        except BaseException as error:
            error.add_note(f"interrupted at {where}, line {at} of the action")
            raise
        at += 1
    return len(places)


def serves(pool: WarmPool) -> None:
    assert pool.submit(abs, -3).result(BOUND) == 3


@pytest.fixture
def pool(make_pool: Callable[..., WarmPool]) -> WarmPool:
    pool = make_pool(1)
    pool.wait_warm(BOUND)
    return pool


def test_submit(pool: WarmPool) -> None:
    assert every_line(lambda: pool.submit(abs, -1), lambda: serves(pool)) > 20


def test_submit_with_a_limit(pool: WarmPool) -> None:
    view = pool.options(timeout=BOUND)
    assert every_line(lambda: view.submit(abs, -1), lambda: serves(pool)) > 20


def test_result(pool: WarmPool) -> None:
    futures: list[Any] = []

    def action() -> None:
        futures.append(future := pool.submit(abs, -1))
        future.result(BOUND)

    def check() -> None:
        serves(pool)
        for future in futures:
            assert future.result(BOUND) == 1
        futures.clear()

    assert every_line(action, check) > 30


def test_cancel_with_others_who_wait(pool: WarmPool, make_gate: Callable[[], Gate]) -> None:
    at, where = 0, ""
    while where is not None:
        gate = make_gate()
        blocker = pool.submit(hold, gate)
        gate.arrived()
        queued = pool.submit(abs, -1)

        def ask(future: Any = queued) -> None:
            with contextlib.suppress(CancelledError):
                future.result(BOUND)

        waiters = [
            threading.Thread(target=wait, args=([queued], BOUND)),
            threading.Thread(target=ask),
        ]
        for waiter in waiters:
            waiter.start()
        where = interrupted(queued.cancel, at)
        gate.open()
        blocker.result(BOUND)
        for waiter in waiters:
            waiter.join(BOUND)
            assert not waiter.is_alive(), where
        serves(pool)
        at += 1
    assert at > 15


def test_wait_warm_and_stats(pool: WarmPool) -> None:
    assert every_line(lambda: (pool.wait_warm(BOUND), pool.stats()), lambda: serves(pool)) > 20


def _all_ended() -> bool:
    gc.collect()
    return all(desk.has_ended for desk in list(lifetime._running) if desk.name == "interrupted")


@pytest.mark.timeout(300)  # A pool for each line.
@pytest.mark.parametrize("start_method", ["forkserver"])
def test_the_making_of_a_pool(start_method: str) -> None:
    def action() -> None:
        WarmPool(1, start_method=start_method, name="interrupted")

    def check() -> None:
        until(_all_ended, "what was begun has ended")

    gc.collect()
    gc.freeze()  # What the tests before have left takes long to look through, for each line.
    try:
        assert every_line(action, check) > 100
    finally:
        gc.unfreeze()


def test_close(make_pool: Callable[..., WarmPool]) -> None:
    pools = [make_pool(1, start_method="fork")]

    def check() -> None:
        pools[0].close(BOUND)
        until(lambda: pools[0]._desk.has_ended, "it has ended")
        pools[0] = make_pool(1, start_method="fork")
        serves(pools[0])

    assert every_line(lambda: pools[0].close(BOUND), check) > 20


def test_shutdown(make_pool: Callable[..., WarmPool]) -> None:
    pools = [make_pool(1, start_method="fork")]

    def check() -> None:
        pools[0].shutdown()
        until(lambda: pools[0]._desk.has_ended, "it has ended")
        pools[0] = make_pool(1, start_method="fork")
        serves(pools[0])

    assert every_line(lambda: pools[0].shutdown(), check) > 15
