"""Values whose pickling or unpickling does something."""

from __future__ import annotations

import os
import pickle
import signal
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


class Grid:
    """Consents to its bytes going apart from its pickle, as numpy's arrays do."""

    def __init__(self, cells: Any) -> None:
        self.cells = memoryview(cells)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self), (pickle.PickleBuffer(self.cells),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and bytes(self.cells) == bytes(other.cells)

    __hash__ = None  # type: ignore[assignment]


def large_values(size: int) -> dict[str, Any]:
    """Everything that may travel apart, in one value; each of it is this large."""
    return {
        "bytes": [b"\x01" * size, (b"\x02" * size,)],
        "bytearray": bytearray(b"\x03" * size),
        "grid": Grid(bytearray(b"\x04" * size)),
        "read-only": Grid(b"\x05" * size),
        "text": "\N{SNOWMAN}" * (size // 3),
        "small": [b"\x06", bytearray(b"\x07"), Grid(bytearray(b"\x08"))],
    }


def return_large_values(size: int) -> dict[str, Any]:
    """A task that returns all that."""
    return large_values(size)


def change_all(values: dict[str, Any]) -> list[bool]:
    """A task that changes its arguments where that is possible; which are what they should be."""
    expected = large_values(len(values["bytearray"]))
    equal = [values[name] == expected[name] for name in expected]
    values["bytearray"][0] ^= 255
    values["bytearray"] += b"more"
    values["grid"].cells[0] ^= 255
    equal.append(values["read-only"].cells.readonly)
    equal.append(type(values["bytes"][0]) is bytes and type(values["bytearray"]) is bytearray)
    return equal


def write_parts_and(fault: str, number: int) -> Any:
    """A task that writes its answer up to one of some points, and then commits a fault.

    Goes on behind the point at which the whole answer is written, so that nobody gets it.
    """
    faults.write(answer_up_to(number))
    return faults.perform(fault)


PART = 1 << 21
POINTS = 7


def answer_up_to(number: int) -> bytes:
    """The beginning of an answer in two parts, cut off at one of some points."""
    task = faults.own_task()
    parts = [b"\x01" * PART, b"\x02" * PART]
    body = parts_body(2)
    head = wire.header(wire.RESULT_PART, task, PART)
    whole = b"".join(wire.Parted(body, parts).pieces(wire.RETURNED, task))
    points = [
        5,
        len(head),
        len(head) + PART // 2,
        len(head) + PART,
        2 * (len(head) + PART) - 1,
        2 * (len(head) + PART),
        len(whole) - 1,
    ]
    assert len(points) == POINTS
    return whole[: points[number]]


def parts_body(count: int) -> bytes:
    """A pickle that refers to so many parts."""
    return pickle.dumps(
        [Grid(bytearray(1)) for _ in range(count)], 5, buffer_callback=lambda _buffer: False
    )


def lie_of_parts(name: str) -> NoReturn:
    """A task that writes something that is wrong with parts, and waits for its end."""
    task = faults.own_task()
    part = wire.header(wire.RESULT_PART, task, 4) + b"part"
    faults.write(
        {
            "a part of another task": wire.header(wire.RESULT_PART, task + 1, 4) + b"part" + part,
            "a part before a log record": part + wire.header(wire.LOG, task, 2) + b"{}",
            "a part before an error": part + wire.header(wire.RAISED, task, 0),
            "a part before a greeting": part + wire.header(wire.HELLO, 0, 0),
            "a part of arguments": wire.header(wire.ARGUMENT_PART, task, 4) + b"part",
            "parts that promise too much": part
            + wire.header(wire.RESULT_PART, task, wire.MAX_BODY),
            "a part with garbage behind it": part + b"\0\0\0\0",
        }[name]
    )
    signal.pause()
    raise AssertionError


LIES = [
    "a part of another task",
    "a part before a log record",
    "a part before an error",
    "a part before a greeting",
    "a part of arguments",
    "parts that promise too much",
    "a part with garbage behind it",
]


def answer_with_parts(sent: int, used: int) -> NoReturn:
    """A task whose answer has so many parts, and refers to so many; it goes on waiting."""
    parted = wire.Parted(parts_body(used), [b"part"] * sent)
    faults.write(b"".join(parted.pieces(wire.RETURNED, faults.own_task())))
    signal.pause()
    raise AssertionError


class OnUnpicklingLast:
    """Large, and calls a function in the end of its unpickling, given what was unpickled."""

    def __init__(self, size: int, function: Callable[..., Any], *args: Any) -> None:
        self._size = size
        self._call = function, args

    def __reduce__(self) -> Any:
        function, args = self._call
        return _call_after, (b"x" * self._size, OnUnpickling(function, *args))


def _call_after(_large: bytes, value: Any) -> Any:
    return value


def promise_a_part(size: int) -> NoReturn:
    """A task that announces a part and writes a little of it."""
    faults.write(wire.header(wire.RESULT_PART, faults.own_task(), size) + b"a little of it")
    signal.pause()
    raise AssertionError


def keep(_value: Any) -> NoReturn:
    """A task that has its argument until its end."""
    signal.pause()
    raise AssertionError
