"""What is changed around a test of CPython's so that it says of WarmPool what it should."""

from __future__ import annotations

import concurrent.futures.process
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import warmpool
from tests.conformance.fetch_cpython_tests import FOLDER, NAME
from tests.conformance.theirs import FETCHED
from tests.helpers.waiting import BOUND

Patch = Callable[[Any, dict[str, Any]], AbstractContextManager[Any]]
"""Of the test case, and of the names that the test looks up in its module."""


@dataclass(frozen=True)
class Adapted:
    """A test that runs with something changed.

    Attributes:
        reason: Why that is right.
        patch: What is changed while it runs.
    """

    reason: str
    patch: Patch


# ---------------------------------------------------------------------------- broken pools


class _GoesOn(warmpool.WarmPool):
    """Before it ends it does one more task, whatever has happened to it."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if self.health is not warmpool.Health.CLOSED:
            assert self.submit(abs, -1).result(BOUND) == 1
        super().shutdown(wait, cancel_futures=cancel_futures)


def _instead_of_broken(error: type[BaseException]) -> Patch:
    @contextmanager
    def patch(case: Any, names: dict[str, Any]) -> Iterator[None]:
        case.executor_type = _GoesOn
        with mock.patch.dict(names, BrokenProcessPool=error):
            yield

    return patch


@contextmanager
def _dies_while_it_ends(case: Any, names: dict[str, Any]) -> Iterator[None]:
    with mock.patch.dict(names, BrokenProcessPool=warmpool.WorkerDied):
        yield


DIES = Adapted(
    "a death fails the task that died with WorkerDied; the pool goes on",
    _instead_of_broken(warmpool.WorkerDied),
)
DIES_WHILE_THE_POOL_ENDS = Adapted("a death fails its task with WorkerDied", _dies_while_it_ends)
FAILS_IN_ARGUMENTS = Adapted(
    "arguments that cannot be unpickled are a PayloadError of their own task",
    _instead_of_broken(warmpool.PayloadError),
)
FAILS_IN_RESULT = Adapted(
    "a result that cannot be unpickled is a PayloadError of its own task",
    _instead_of_broken(warmpool.PayloadError),
)

# ---------------------------------------------------------------------------- scripts


_KNOWS_TEMPLATE = """
import multiprocessing.context as contexts
class TemplateContext(contexts.SpawnContext):
    _name = "template"
contexts._concrete_contexts["template"] = TemplateContext()
"""
"""For a script that names a context of multiprocessing."""


def _in_scripts(*changes: tuple[str, str], stderr: tuple[bytes, bytes] = (b"", b"")) -> Patch:
    @contextmanager
    def patch(case: Any, names: dict[str, Any]) -> Iterator[None]:
        original = names["assert_python_ok"]

        def assert_python_ok(flag: str, script: str) -> tuple[int, bytes, bytes]:
            for old, new in (("from concurrent.futures import", "from warmpool import"), *changes):
                assert old in script, f"{old!r} is not in their script any more:\n{script}"
                script = script.replace(old, new)
            if FETCHED:
                # A copy of before had the names that they have in the package.
                script = script.replace(f"test.{NAME}", NAME)
            # They run it isolated from PYTHONPATH and the like. One of them uses multiprocessing
            # without importing it.
            if case.ctx == "template":
                script = script.replace("set_start_method('template')", "set_start_method('spawn')")
                script = script.replace(
                    "=multiprocessing)", "=multiprocessing.get_context('template'))"
                )
                script = _KNOWS_TEMPLATE + script
            path = [str(Path(warmpool.__file__).parent.parent), str(FOLDER)]
            script = f"import multiprocessing, sys; sys.path += {path}\n{script}"
            code, out, err = original(flag, script)
            assert stderr[0] in err, err
            return code, out, err.replace(*stderr)

        with mock.patch.dict(names, assert_python_ok=assert_python_ok):
            yield

    return patch


IMPORTS_OURS_AND_IS_PATIENT = Adapted(
    "its script imports the executor from concurrent.futures; and a pool that was forgotten has "
    "its grace at the interpreter's end, in which a busy machine may not start five workers",
    _in_scripts(("mp_context=context)", f"mp_context=context, grace={BOUND})")),
)
IMPORTS_OURS_AND_SAYS_OUR_WORDS = Adapted(
    "as above; and PoolClosed, which is a RuntimeError, says it in other words",
    _in_scripts(stderr=(b"warmpool.PoolClosed: ", b"RuntimeError: cannot schedule new futures: ")),
)
IMPORTS_OURS_AND_NAMES_METHOD = Adapted(
    "as above; and WarmPool's default is not multiprocessing's, so the method has to be passed",
    _in_scripts(("(max_workers=3)", "(max_workers=3, mp_context=multiprocessing)")),
)

# ---------------------------------------------------------------------------- the rest


@contextmanager
def _warm(case: Any, names: dict[str, Any]) -> Iterator[None]:
    case.executor.wait_warm(BOUND)
    yield


STARTS_WARM = Adapted(
    "it wants tasks to have started when the pool is shut down at once, and nothing has in a pool "
    "that is still cold: WarmPool hands no task to a worker that is not ready",
    _warm,
)


def _in_other_words(words: dict[str, str]) -> Patch:
    @contextmanager
    def patch(case: Any, names: dict[str, Any]) -> Iterator[None]:
        original = case.assertRaisesRegex

        def assert_raises_regex(error: type[BaseException], theirs: str) -> Any:
            return original(error, words[theirs])

        with mock.patch.object(case, "assertRaisesRegex", assert_raises_regex):
            yield

    return patch


SAYS_OUR_WORDS = Adapted(
    "the error is of the same type, and says it in other words",
    _in_other_words(
        {
            "buffersize must be an integer or None": "buffersize must be an integer",
            "buffersize must be None or > 0": "buffersize must be greater than 0",
        }
    ),
)
CAUSE_IS_OURS = Adapted(
    "the cause of what a task raised is of a public class, warmpool.RemoteTraceback",
    lambda case, names: mock.patch.object(
        concurrent.futures.process, "_RemoteTraceback", warmpool.RemoteTraceback
    ),
)
