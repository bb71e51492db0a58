"""CPython's own tests of executors, run on WarmPool: table.py says which, and how."""

from __future__ import annotations

import gc
import os
import re
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import theirs
from tests.conformance.fetch_cpython_tests import VERSION
from tests.conformance.table import START_METHODS, VERDICTS, LeftOut

if not theirs.FOUND:
    if sys.version_info[:2] == (3, 11) and "CI" in os.environ:
        pytest.fail(theirs.WHY_NOT, pytrace=False)
    pytest.skip(theirs.WHY_NOT, allow_module_level=True)

from tests.conformance import cases

if unsorted := cases.unsorted():
    pytest.fail("\n".join(unsorted), pytrace=False)

globals().update(cases.CASES)

AS_MANY = {"3.11": 46, "3.12": 46, "3.13": 49, "3.14": 60}
"""Tests under a start method, in the newest of each version that we fetch."""
THOSE_THAT_SKIP_THEMSELVES_UNDER_FORK = {"3.14": 2}


@pytest.fixture(autouse=True, scope="module")
def only_new_objects_are_collected() -> Iterator[None]:
    """Two of theirs collect garbage thirty times, at 0.1 s for all that pytest has loaded."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("start_method", START_METHODS)
def test_as_many_run_as_are_meant_to(start_method: str) -> None:
    load = unittest.defaultTestLoader.getTestCaseNames
    running = [
        test
        for case in cases.CASES.values()
        if case.ctx == start_method  # type: ignore[attr-defined]
        for test in load(case)
        if not getattr(getattr(case, test), "__unittest_skip__", False)
    ]

    least = AS_MANY.get(VERSION, AS_MANY["3.14"])
    if start_method == "fork":
        least -= THOSE_THAT_SKIP_THEMSELVES_UNDER_FORK.get(VERSION, 1)
    if theirs.FETCHED and VERSION in AS_MANY:
        assert len(running) == least
    else:
        # An early or a later one of that version.
        assert len(running) >= min(AS_MANY.values()) - 2


def test_what_stands_in_for_theirs_exists() -> None:
    ours = Path(__file__).with_name("test_equivalents.py").read_text()
    reasons = [
        verdict.reason
        for tests in VERDICTS.values()
        for verdict in tests.values()
        if isinstance(verdict, LeftOut)
    ]

    named = [name for reason in reasons for name in re.findall(r"ours: (\w+)", reason)]

    assert [name for name in named if f"def {name}(" not in ours] == []
