"""CPython's tests as test cases for WarmPool. Workers import this module too: no pytest here."""

from __future__ import annotations

import functools
import inspect
import multiprocessing.context
import multiprocessing.forkserver
import unittest
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from test import support  # type: ignore[import-not-found]

from tests.conformance import theirs
from tests.conformance.adapt import Adapted
from tests.conformance.table import (
    NOT_IN_EVERY_VERSION,
    OTHER_CLASSES,
    START_METHODS,
    SUITES,
    VERDICTS,
    LeftOut,
    Verdict,
)
from tests.helpers.waiting import BOUND
from warmpool import WarmPool


class _OnWarmPool:
    """Stands where they have ``ProcessPoolForkMixin`` and its like."""

    executor_type = WarmPool
    TIMEOUT = BOUND

    def setUp(self) -> None:
        support.environment_altered = False
        super().setUp()  # type: ignore[misc]

    def tearDown(self) -> None:
        super().tearDown()  # type: ignore[misc]
        # multiprocessing's own, which some of them start by way of a context.
        multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]
        # They collect zombies and give threads a second, and only say so.
        assert not support.environment_altered, "a process or thread is left: see stderr"

    def create_event(self) -> Any:
        return self.manager.Event()  # type: ignore[attr-defined]

    def _fail_on_deadlock(self, executor: WarmPool) -> None:
        # Theirs kills _processes.
        executor.close(BOUND)
        raise AssertionError(f"pending for {BOUND:g} s in {executor!r}")


class _TemplateContext(multiprocessing.context.SpawnContext):
    """For their ``mp_context``; managers and queues that are made of it are those of spawn."""

    def get_start_method(self, allow_none: bool = False) -> str:
        return "template"


def _prepared(method: Callable[[Any], None], verdict: Verdict) -> Callable[[Any], None]:
    @functools.wraps(method)
    def run(self: Any) -> None:
        change = (
            verdict.patch(self, inspect.unwrap(method).__globals__)
            if isinstance(verdict, Adapted)
            else nullcontext()
        )
        try:
            with change:
                method(self)
        except unittest.SkipTest as skip:
            self.fail(f"skipped itself, and should be left out in table.py: {skip}")
        except BaseException:
            # Else their tearDown waits without a bound for what may be hung.
            self.executor.close(BOUND)
            raise

    return run


def _make(suite: str, start_method: str, known: dict[str, type[Any]]) -> type[unittest.TestCase]:
    mixin = known[suite]
    tests: dict[str, Any] = {}
    for cls in mixin.__mro__:
        for name, verdict in VERDICTS.get(cls.__name__, {}).items():
            method = vars(cls).get(name)
            if method is None or name in tests:
                continue
            if isinstance(verdict, LeftOut) and start_method in verdict.methods:
                tests[name] = None
            else:
                tests[name] = _prepared(method, verdict)
    # Ours comes first, so that its setUp and tearDown are the outermost.
    bases = (_OnWarmPool, mixin, known["ExecutorMixin"], known["BaseTestCase"])
    namespace = {"__module__": __name__, "ctx": start_method, **tests}
    if start_method == "template":
        namespace["get_context"] = lambda self: _TemplateContext()
    return type(f"{start_method.capitalize()}{suite}", bases, namespace)


def _make_all() -> dict[str, type[unittest.TestCase]]:
    known = theirs.classes()
    made = [_make(suite, method, known) for method in START_METHODS for suite in SUITES]
    return {cls.__name__: cls for cls in made}


def unsorted() -> list[str]:
    """What of theirs is not in the table, and what in the table is not theirs."""
    known = theirs.classes()
    there = {
        (name, test)
        for name, cls in known.items()
        if name not in OTHER_CLASSES
        for test in theirs.own_tests(cls)
    }
    listed = {(name, test) for name, tests in VERDICTS.items() for test in tests}
    missing = {(name, test) for name, test in listed - there if test not in NOT_IN_EVERY_VERSION}
    return sorted(
        [f"{name}.{test} has no verdict in table.py" for name, test in there - listed]
        + [f"{name}.{test} in table.py is no test of theirs" for name, test in missing]
    )


CASES = _make_all()
"""A class for each of their suites and each start method."""

# Pickled by reference where a test submits a method of its own class.
globals().update(CASES)
