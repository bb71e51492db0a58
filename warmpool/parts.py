"""Pickling without a copy of what is large, and unpickling with one at most.

Large buffers of arguments and results travel apart from the pickle that refers to them, each to be
received where it is going to be used (see :class:`warmpool.wire.Parted`). Pickle's protocol 5
foresees that for what consents to it by a ``PickleBuffer``, numpy's arrays above all: they become
views of what was received. Plain ``bytes`` and ``bytearray`` it puts into the pickle, wherever they
are; but it passes large ones to its file as they are, right after the few bytes that announce them.
So the file can put them apart, too, and in their place a call that makes them anew.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import Any, Protocol

from warmpool.room import LARGE, copied
from warmpool.wire import Body, Bytes, Parted


class Pickler(Protocol):
    """As ``pickle.Pickler``."""

    def dump(self, obj: Any, /) -> None:
        """Pickle one value."""


MakePickler = Callable[[Any, "Callable[[pickle.PickleBuffer], bool] | None"], Pickler]
"""Makes a pickler of protocol 5 or above, given its file and ``buffer_callback``."""

_PLAIN = frozenset({int, float, str, bool, type(None), complex})
"""What needs no registered reducer. So do bytes, but large ones are to travel apart."""
_FUNCTIONS = frozenset({FunctionType, BuiltinFunctionType})


class Dumps:
    """How a pool pickles.

    Args:
        make_pickler: Makes the pickler.
        is_own: Whether what is plain may be pickled without it.
    """

    __slots__ = ("_is_own", "_make_pickler")

    def __init__(self, make_pickler: MakePickler, *, is_own: bool) -> None:
        self._make_pickler = make_pickler
        self._is_own = is_own

    def __call__(self, value: Any) -> bytes:
        """Pickle a value, in one piece.

        Raises:
            Exception: Whatever pickling raises.
        """
        buffer = io.BytesIO()
        self._make_pickler(buffer, None).dump(value)
        return buffer.getvalue()

    def result(self, value: Any) -> Body:
        """Pickle a result, which is to be sent at once.

        Raises:
            Exception: Whatever pickling raises.
        """
        if self._is_own and (type(value) in _PLAIN or _are_small_bytes(value)):
            return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        return _dump(value, self._make_pickler, keeps=False)

    def task(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Body:
        """Pickle a task, which may be sent later.

        Raises:
            Exception: Whatever pickling raises.
        """
        if (
            self._is_own
            and not kwargs
            and type(function) in _FUNCTIONS
            and (_PLAIN.issuperset(map(type, args)) or all(map(_is_plain, args)))
        ):
            # No registered reducer can apply, and building a ForkingPickler costs more than all the
            # rest of it.
            return pickle.dumps((function, args, kwargs), pickle.HIGHEST_PROTOCOL)
        return _dump((function, args, kwargs), self._make_pickler, keeps=True)


def _are_small_bytes(value: Any) -> bool:
    return type(value) is bytes and len(value) < LARGE


def _is_plain(value: Any) -> bool:
    return type(value) in _PLAIN or _are_small_bytes(value)


def _dump(value: Any, make_pickler: MakePickler, *, keeps: bool) -> Body:
    """Pickle a value, and put apart what is large in it.

    Args:
        value: What to pickle.
        make_pickler: Makes a pickler that writes to this file, and has this callback.
        keeps: Whether later changes of the value must not matter: then what can be changed is
            copied. Else the answer has to be used up at once.

    Raises:
        Exception: Whatever pickling raises.
    """
    output = Output()
    output.keeps, output.parts = keeps, []
    make_pickler(output, output.take_buffer).dump(value)
    # Nearly always it is one piece.
    body = output[0] if len(output) == 1 else b"".join(output)
    return Parted(body, output.parts) if output.parts else body


def load(body: Parted) -> Any:
    """Unpickle it. Any number of times; the views in all that comes of it are of the same bytes."""
    return pickle.loads(body.body, buffers=body.parts)


class Output(list[bytes]):
    """The file of a pickler: a list of what was written, without what is apart from it.

    Attributes:
        keeps: Whether to copy what can be changed.
        parts: What is apart.
    """

    # Made for each task and each result that is not plain: the fewer steps, the better.
    __slots__ = ("keeps", "parts")

    keeps: bool
    parts: list[Bytes]

    def take_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """The pickler's ``buffer_callback``: whether the buffer is to be in the pickle."""
        data = buffer.raw()
        if len(data) < LARGE:
            return True
        self._take(data)
        return False

    def write(self, data: Any) -> None:
        """See ``io.BufferedIOBase``."""
        if type(data) is bytes and len(data) < LARGE:
            self.append(data)
            return
        # The pickler writes a large object in two: what announces it, and then the object itself.
        call = self._announced(data)
        if call is None:
            self.append(bytes(data))
        else:
            self.append(call)
            self._take(data)

    def _announced(self, data: Any) -> bytes | None:
        """What makes it anew, in the place of what was written to announce it."""
        expected = _ANNOUNCED.get(type(data))
        if expected is None or (size := len(data)) < LARGE or not self:
            return None
        before = self[-1]
        for opcode, width, call in expected:
            if size >> 8 * width == 0 and before.endswith(opcode + size.to_bytes(width, "little")):
                self[-1] = before[: -1 - width]
                return call
        return None

    def _take(self, data: Any) -> None:
        # Bytes cannot change, and need no copy: the reference keeps them.
        if type(data) is bytes or not self.keeps:
            self.parts.append(data)
        else:
            self.parts.append(copied(memoryview(data)))


# ------------------------------------------------------------------------- where it is received


def as_bytes(part: memoryview) -> bytes:
    """A copy of a part; it fills fresh memory, in large pages where the system has them."""
    if len(part) >= _MAPPED:
        try:
            from warmpool.largebytes import copied as filled  # It takes milliseconds to import.
        except ImportError:
            filled = None  # A signal handler has interrupted just that.
        if filled is not None:
            return filled(part)
    return bytes(part)


_MAPPED = 1 << 25
"""Bytes from which on glibc takes memory by itself from the kernel, for this alone, and gives it
back: what is asked of the kernel for that memory has no effect on any other."""


def _call(function: Callable[..., Any]) -> bytes:
    """In a pickle: the function's value for the next part."""
    name = f"{function.__module__}\n{function.__qualname__}\n".encode()
    return pickle.GLOBAL + name + pickle.NEXT_BUFFER + pickle.TUPLE1 + pickle.REDUCE


_BYTES, _BYTEARRAY = _call(as_bytes), _call(bytearray)

_ANNOUNCED: dict[type, tuple[tuple[bytes, int, bytes], ...]] = {
    bytes: ((pickle.BINBYTES, 4, _BYTES), (pickle.BINBYTES8, 8, _BYTES)),
    bytearray: ((pickle.BYTEARRAY8, 8, _BYTEARRAY),),
}
"""By type: opcode, bytes of the length after it, and what goes in their place."""
