"""CPython's own tests of executors: where they are, and what is in them.

Where Python came without them, a fetched copy is imported as a module at the top level, from a
folder appended to ``sys.path``. Workers import the tests' functions by the names of their modules;
multiprocessing hands ``sys.path`` on to them, under every start method, but no changed
``test.__path__``.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from types import ModuleType
from typing import Any

from tests.conformance import fetch_cpython_tests
from tests.conformance.fetch_cpython_tests import FOLDER, NAME, VERSION

FETCHED = not fetch_cpython_tests.come_with_python()
"""Whether they are a copy of our own, and so the same ones everywhere."""

FOUND = not FETCHED or fetch_cpython_tests.are_fetched()

NOT_OF_PROCESSES = {"test_interpreter_pool", "test_thread_pool"}
"""Modules of theirs that are left alone: the first wants tests of asyncio that are not here."""

WHY_NOT = (
    f"this Python {VERSION} has no test.{NAME}, and there is no copy in {FOLDER}: run "
    "tests/conformance/fetch_cpython_tests.py"
)


def modules() -> list[ModuleType]:
    """Import them: one module in old versions, a package of several in newer ones."""
    if FETCHED and str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    top = importlib.import_module(NAME if FETCHED else f"test.{NAME}")
    inner = pkgutil.iter_modules(getattr(top, "__path__", ()), f"{top.__name__}.")
    return [
        top,
        *(
            importlib.import_module(info.name)
            for info in inner
            if info.name.rpartition(".")[2] not in NOT_OF_PROCESSES
        ),
    ]


def classes() -> dict[str, type[Any]]:
    """Their classes by name, without those that they generate: one for each kind of executor."""
    return {
        name: thing
        for module in modules()
        for name, thing in vars(module).items()
        if isinstance(thing, type) and thing.__module__ == module.__name__
    }


def own_tests(cls: type[Any]) -> list[str]:
    """The tests that a class defines itself; what they generate has none."""
    return [name for name in vars(cls) if name.startswith("test")]
