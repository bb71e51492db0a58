"""Values whose pickling or unpickling does something."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from tests.helpers import faults
from warmpool import wire


class OnUnpickling:
    """Calls a function where it is unpickled, and becomes what that returns."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._call = function, args

    def __reduce__(self) -> Any:
        return self._call


class OnPickling:
    """Calls a function where it is pickled."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._call = function, args

    def __reduce__(self) -> Any:
        function, args = self._call
        return str, (str(function(*args)),)


def fault_on_unpickling(name: str) -> OnUnpickling:
    """An argument that commits a fault in the worker."""
    return OnUnpickling(faults.perform, name)


def return_fault_on_pickling(name: str) -> OnPickling:
    """A task whose result commits a fault in the worker."""
    return OnPickling(faults.perform, name)


def write_half_a_result_and(name: str) -> Any:
    """A task that commits a fault half way through writing its result."""
    faults.write(wire.header(wire.RETURNED, 1, 1 << 20) + b"half of it")
    return faults.perform(name)


def return_on_unpickling(function: Callable[..., Any], *args: Any) -> OnUnpickling:
    """A task whose result calls a function in the host."""
    return OnUnpickling(function, *args)


class _TwoArguments(Exception):
    """Cannot be unpickled: pickle calls the class with ``args``, which is one."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


class _OnUnpicklingError(Exception):
    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        super().__init__("it does something when it is unpickled")
        self._call = function, args

    def __reduce__(self) -> Any:
        return self._call


class _OnPicklingError(Exception):
    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        super().__init__("it does something when it is pickled")
        self._call = function, args

    def __reduce__(self) -> Any:
        function, args = self._call
        return Exception, (str(function(*args)),)


def raise_two_arguments() -> NoReturn:
    raise _TwoArguments(1, 2)


def raise_on_unpickling(function: Callable[..., Any], *args: Any) -> NoReturn:
    raise _OnUnpicklingError(function, *args)


def raise_on_pickling(function: Callable[..., Any], *args: Any) -> NoReturn:
    raise _OnPicklingError(function, *args)


def raise_unprintable() -> NoReturn:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise ValueError("no text for you")

    raise Unprintable


class _Abandon(BaseException):
    """No ``Exception``: as those with which frameworks cancel or leave."""


def abandon(*_: Any) -> NoReturn:
    raise _Abandon("no matter what")


def raise_what_abandons_when_printed() -> NoReturn:
    class Unprintable(Exception):
        __str__ = abandon

    raise Unprintable


class Mortal:
    """Notes the process in which it is let go."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __del__(self) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, b"%d \n" % os.getpid())
        os.close(descriptor)


def take(_mortal: Mortal, then: str) -> Any:
    """A task that takes one, and returns it, fails, or returns it as what cannot be pickled."""
    if then == "return":
        return None
    if then == "return it":
        return _mortal
    if then == "raise":
        raise faults.Oops
    return _mortal, lambda: None


def only_in(pid: int, name: str) -> Any:
    """Commit a fault in one process only."""
    return faults.perform(name) if os.getpid() == pid else None
