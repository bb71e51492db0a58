"""Pickling: tasks, answers, errors and initializers, on both sides.

Arguments are pickled once, in the caller's thread; results are unpickled in the thread that asks
(I2). ``ForkingPickler`` knows what ``multiprocessing`` and others (sockets, connections, tensors)
have registered with it, so what can be an argument elsewhere can be one here.
"""

from __future__ import annotations

import functools
import importlib
import os
import pickle
import struct
from collections import ChainMap
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import context, reduction
from threading import current_thread, main_thread
from types import TracebackType
from typing import Any

from warmpool import parts
from warmpool.each import Each
from warmpool.errors import PayloadError, RemoteTraceback
from warmpool.parts import Dumps
from warmpool.wire import Body, Parted

_RAISED = (Exception, SystemExit)
"""What the user's methods may raise in the host's threads without passing."""


def dumper(pickler: str) -> Dumps:
    """How a pool with this ``pickler=`` pickles.

    Raises:
        ImportError: cloudpickle is asked for and not installed.
    """
    if pickler == "cloudpickle":
        try:
            import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]
        except ImportError as error:
            raise ImportError(
                "pickler='cloudpickle' needs an extra: pip install 'warmpool-executor[cloudpickle]'"
            ) from error

        return Dumps(_that_knows_of_processes(cloudpickle.Pickler), is_own=False)
    return dumps


def _that_knows_of_processes(pickler: Any) -> parts.MakePickler:
    """A pickler like this one which also knows what was registered for sending to processes."""
    # Else the bare number of a queue's or a connection's descriptor would go, and what the worker
    # writes there would be lost in whatever it has by that number. What it knows itself goes first.
    own, *others = pickler.dispatch_table.maps
    forking: Any = reduction.ForkingPickler
    known = ChainMap(own, forking._extra_reducers, *others)
    made: Any = type(pickler.__name__, (pickler,), {"dispatch_table": known})
    return lambda file, callback: made(file, buffer_callback=callback)


def _forking_pickler(file: Any, callback: Any) -> parts.Pickler:
    # It knows everything that was registered for sending to processes.
    return reduction.ForkingPickler(file, pickle.HIGHEST_PROTOCOL, True, callback)


dumps = Dumps(_forking_pickler, is_own=True)


def name_of(function: Any) -> str:
    """What a task is called that is no plain function."""
    while isinstance(function, (functools.partial, Each)):
        function = function.function if isinstance(function, Each) else function.func
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__qualname__


def load_task(
    body: Body,
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Unpickle a task in a worker."""
    global _is_loading
    _is_loading = True
    try:
        task: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] = (
            parts.load(body) if isinstance(body, Parted) else pickle.loads(body)
        )
    finally:
        _is_loading = False
    return task


def loads(body: Body) -> Any:
    """Unpickle what :class:`Dumps` has pickled.

    Raises:
        Exception: Whatever unpickling raises.
    """
    return parts.load(body) if isinstance(body, Parted) else pickle.loads(body)


_is_loading = False
"""Whether the main thread of this worker unpickles."""


def is_loading() -> bool:
    """Whether this thread is unpickling a task or an initializer, which may import modules."""
    return _is_loading and current_thread() is main_thread()


# ------------------------------------------------------------------------------- errors


def dump_error(error: BaseException, dumps_: Dumps, note: str | None = None) -> bytes:
    """Pickle what was raised, in a form that can be read even where it cannot be unpickled.

    Args:
        error: What was raised.
        dumps_: How to pickle it.
        note: Makes it a :class:`~warmpool.PayloadError` of this reason.
    """
    # BaseException all the way: no Ctrl-C comes to a worker, and whatever else the user's methods
    # raise here must not cost it. In the host, below, KeyboardInterrupt passes.
    summary = _summary(error, BaseException)
    try:
        if error.__traceback__ is not None:
            # Without our own frame. By the base class: the error's own may refuse attributes.
            BaseException.with_traceback(error, error.__traceback__.tb_next)
        text = _traceback_text(error, summary)
    except BaseException:
        text = summary  # A __str__ or a __cause__ of the user's own that itself raises.
    try:
        pickled = bytes(dumps_(error))
    except BaseException as failure:
        pickled = None
        summary += f" (it could not be pickled: {_summary(failure, BaseException)})"
    texts = (
        None if part is None else part.encode("utf-8", "backslashreplace")
        for part in (note, summary, text)
    )
    return _pack((*texts, pickled))


def load_error(body: bytes | bytearray) -> BaseException:
    """Unpickle what was raised, with the worker's traceback as its cause."""
    note, summary, text, pickled = _unpack(body)
    remote = RemoteTraceback(text)
    error: BaseException
    if pickled is None:
        error = PayloadError(f"the task raised {summary}")
    else:
        try:
            error = pickle.loads(pickled)
            if not isinstance(error, BaseException):
                raise TypeError(f"it became a {type(error).__name__}")
        except _RAISED as failure:
            error = PayloadError(
                f"the task raised {summary}, which could not be unpickled here: {_summary(failure)}"
            )
    vars(BaseException)["__cause__"].__set__(error, remote)
    if note is not None:
        outer = PayloadError(f"{note}: {summary}")
        outer.__cause__ = error
        return outer
    return error


# What was raised travels as four parts, each preceded by its length, -1 for none. Not as a pickle:
# the supervisor reads the texts, and it unpickles nothing (I2, I13).
_LENGTHS = struct.Struct("<4q")


def _pack(parts: Sequence[bytes | None]) -> bytes:
    lengths = _LENGTHS.pack(*(-1 if part is None else len(part) for part in parts))
    return lengths + b"".join(part for part in parts if part is not None)


def _unpack(body: bytes | bytearray) -> tuple[str | None, str, str, bytes | None]:
    """Note, summary, traceback and pickled error; what is malformed gives a note that says so."""
    parts: list[bytes | None] = []
    if len(body) >= _LENGTHS.size:
        at = _LENGTHS.size
        for length in _LENGTHS.unpack_from(body):
            parts.append(None if length < 0 else bytes(body[at : at + length]))
            at += max(length, 0)
        note, summary, text, pickled = parts
        if at == len(body) and summary is not None and text is not None:
            return (
                None if note is None else note.decode("utf-8", "replace"),
                summary.decode("utf-8", "replace"),
                text.decode("utf-8", "replace"),
                pickled,
            )
    return "the worker's report of an error is malformed", repr(bytes(body[:80])), "", None


def _traceback_text(error: BaseException, summary: str) -> str:
    try:
        # Not before it is needed: from Python 3.14 on this imports dataclasses and inspect, which
        # would lengthen each start of a spawned worker by a third of the interpreter's own.
        import traceback
    except Exception:
        # No descriptor left, say, which may be just what the task has raised.
        return f"{_frames(error.__traceback__)}{summary}\n"
    return "".join(traceback.format_exception(error))


def _frames(trace: TracebackType | None) -> str:
    lines = ["Traceback (most recent call last):\n"]
    while trace is not None:
        code = trace.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {trace.tb_lineno}, in {code.co_name}\n')
        trace = trace.tb_next
    return "".join(lines)


def _summary(
    error: BaseException, endured: type[BaseException] | tuple[type[BaseException], ...] = _RAISED
) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except endured:
        return type(error).__name__


# ------------------------------------------------------------------------------- descriptors


class Descriptor:
    """A descriptor that travels in the arguments of a ``Process``."""

    def __init__(self, number: int) -> None:
        self._number = number

    def detach(self) -> int:
        """The number here; closing it is the caller's from now on."""
        return self._number

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive_descriptor, (reduction.DupFd(self._number),)


def _receive_descriptor(duplicate: Any) -> Descriptor:
    return Descriptor(duplicate.detach())


# ------------------------------------------------------------------------------- initializers


class Initializer:
    """What every worker runs before it is ready; or what is preloaded."""

    __slots__ = ("args", "function")

    def __init__(self, function: Callable[..., Any] | None, args: tuple[Any, ...] = ()) -> None:
        self.function = function
        self.args = args

    def run(self) -> None:
        """Run it."""
        if self.function is not None:
            self.function(*self.args)


NOTHING = Initializer(None)


def import_modules(*names: str) -> None:
    """A preload that is given as names."""
    for name in names:
        importlib.import_module(name)


class _Spawning:
    """Plays the process being spawned that the reducers of multiprocessing look for.

    Queues and locks consent to be pickled only while one is, for they have to be inherited. The
    initializer travels later, over the data channel; so their descriptors are noted here, and
    handed to each worker as it starts.
    """

    method = "forkserver"

    def __init__(self) -> None:
        self.descriptors: list[int] = []

    @staticmethod
    def DupFd(index: int) -> _Inherited:  # noqa: N802 - multiprocessing's name
        return _Inherited(index)

    def duplicate_for_child(self, descriptor: int) -> int:
        self.descriptors.append(os.dup(descriptor))
        return len(self.descriptors) - 1


_inherited: list[Descriptor] = []


class _Inherited:
    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def detach(self) -> int:
        return os.dup(_inherited[self.index].detach())


class PickledInitializer:
    """An initializer as bytes, with the descriptors it refers to (duplicates, the pool's)."""

    __slots__ = ("body", "descriptors")

    def __init__(self, body: bytes, descriptors: tuple[int, ...] = ()) -> None:
        self.body = body
        self.descriptors = descriptors

    def close(self) -> None:
        """Close the duplicates."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def dump_preload(preload: Initializer, dumps_: Dumps) -> bytes:
    """Pickle what is to be preloaded.

    Raises:
        PayloadError: It cannot be pickled.
    """
    try:
        return bytes(dumps_(preload))
    except Exception as error:
        raise PayloadError(
            f"preload cannot be pickled ({_summary(error)}): give names of modules, or a function "
            "that can be imported"
        ) from error


def dump_initializer(initializer: Initializer, dumps_: Dumps) -> PickledInitializer:
    """Pickle an initializer as the arguments of a process are pickled.

    Raises:
        PayloadError: It cannot be pickled.
    """
    if initializer is NOTHING:
        return PickledInitializer(b"", ())
    spawning = _Spawning()
    context.set_spawning_popen(spawning)  # type: ignore[arg-type]
    try:
        body = bytes(dumps_(initializer))
    except Exception as error:
        PickledInitializer(b"", tuple(spawning.descriptors)).close()
        raise PayloadError(
            f"the initializer or its initargs cannot be pickled ({_summary(error)}): pass "
            "functions and classes that can be imported, make queues and locks of "
            "multiprocessing.get_context(START_METHOD) with the pool's own start method ('spawn' "
            "for 'template'), or use start_method='fork', which copies them"
        ) from error
    finally:
        context.set_spawning_popen(None)
    return PickledInitializer(body, tuple(spawning.descriptors))


def load_initializer(body: bytes | bytearray, inherited: Iterable[Descriptor] = ()) -> Initializer:
    """Unpickle an initializer, or a preload, in a worker. Empty: there is none."""
    if not body:
        return NOTHING
    _inherited[:] = inherited
    global _is_loading
    _is_loading = True
    try:
        initializer: Initializer = pickle.loads(body)
    finally:
        _is_loading = False
        for descriptor in _inherited:
            os.close(descriptor.detach())
        _inherited.clear()
    return initializer


def error_summary(body: bytes | bytearray) -> str:
    """What was raised in one line, without unpickling anything of the user's."""
    return _unpack(body)[1]


def error_note(body: bytes | bytearray) -> str | None:
    """The note that goes with what was raised, if there is one."""
    return _unpack(body)[0]


def error_text(body: bytes | bytearray) -> str:
    """The worker's traceback, without unpickling anything of the user's."""
    return _unpack(body)[2]
