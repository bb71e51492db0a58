"""MODULE:FUNCTION on a command line: found, and checked to be of use in a worker.

What is wrong with it is told here, in one sentence, and not by every item in turn.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pickle
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from warmpool.cli_io import describe


class UnusableTarget(Exception):
    """There is no such function, or workers could not call it; the text says why."""


def load(target: str, *values: object) -> Callable[..., Any]:
    """Find what MODULE:FUNCTION names.

    Args:
        target: The text; FUNCTION may be dotted.
        values: What the function has to accept.

    Raises:
        UnusableTarget: There is no such function, or workers could not call it.
    """
    module_name, colon, path = target.partition(":")
    names = [*module_name.split("."), *path.split(".")]
    if not colon or not all(name.isidentifier() for name in names):
        raise UnusableTarget(
            f"{target!r} is not of the form MODULE:FUNCTION, for example json:loads"
        )
    found = _import(module_name)
    for name in path.split("."):
        if not hasattr(found, name):
            close = difflib.get_close_matches(name, dir(found), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UnusableTarget(f"module {module_name!r} has no function {path!r}{hint}")
        found = getattr(found, name)
    if not callable(found):
        raise UnusableTarget(f"{target!r} is not callable, but of type {type(found).__qualname__}")
    _check_signature(found, values, target)
    try:
        pickle.dumps(found)
    except Exception as error:  # whatever a __reduce__ may raise
        reason = describe(error)["message"]
        raise UnusableTarget(f"{target!r} cannot be sent to workers: {reason}") from error
    function: Callable[..., Any] = found
    return function


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a script without a __main__ guard
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{name}.".startswith(f"{missing}."):
            raise UnusableTarget(f"there is no module {missing!r} in sys.path") from error
        frames = traceback.extract_tb(error.__traceback__)
        where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
        facts = describe(error)
        raise UnusableTarget(
            f"importing {name!r} raised {facts['type']}: {facts['message']}{where}"
        ) from error


def _check_signature(function: Callable[..., Any], values: Sequence[object], target: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some that are written in C do not tell
        return
    try:
        signature.bind(*values)
    except TypeError as error:
        count = "one argument" if values else "no arguments"
        raise UnusableTarget(f"{target!r} cannot be called with {count}: {error}") from error
