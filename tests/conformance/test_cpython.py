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
from tests.conformance.table import START_METHODS, VERDICTS, LeftOut

if not theirs.FOUND:
    if sys.version_info[:2] == (3, 11) and "CI" in os.environ:
        pytest.fail(theirs.WHY_NOT, pytrace=False)
    pytest.skip(theirs.WHY_NOT, allow_module_level=True)

from tests.conformance import cases

if unsorted := cases.unsorted():
    pytest.fail("\n".join(unsorted), pytrace=False)

globals().update(cases.CASES)

AT_LEAST = 46
"""Tests under a start method in any version of theirs."""


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

    # Theirs has one test more under the other methods, which skips itself under fork.
    least = AT_LEAST - (start_method == "fork")
    assert len(running) == least if theirs.FETCHED else len(running) >= least


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
