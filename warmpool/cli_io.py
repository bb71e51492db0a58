"""What ``warmpool map`` reads, and the lines that it writes.

Input lines become items, outcomes become JSON lines. Nothing here waits. `Input.read` does one
system call, and the loop in `warmpool.cli_map` makes it only after ``poll`` has said that the
descriptor is ready, so slow input never holds up a result.
"""

from __future__ import annotations

import json
import os
import stat
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

_READ_SIZE = 64 * 1024
LONGEST_LINE = 64 * 1024 * 1024
"""Bytes. An input without line ends must not fill the memory."""
_SHOWN_OF_LONG_LINE = 100

_encode_utf8 = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_encode_ascii = json.JSONEncoder(ensure_ascii=True, allow_nan=False).encode


class InputNotJSON(ValueError):
    """A line of ``--jsonl`` input that is not one JSON value in UTF-8."""


class LineTooLong(ValueError):
    """A line of the input that is longer than any item may be."""


class ResultNotJSON(ValueError):
    """A result that JSON cannot express, such as a set or a NaN."""


class Interrupted(Exception):
    """The item was still running when a signal ended the command."""


def encode(value: object) -> bytes:
    """Return `value` as JSON on one line.

    The text is UTF-8; only a value with lone surrogates (undecodable input bytes) is escaped to
    ASCII as a whole.

    Raises:
        TypeError: JSON has no such type.
        ValueError: JSON has no such value (NaN, an infinity, a value that contains itself).
        RecursionError: The value is nested too deeply.
    """
    try:
        return _encode_utf8(value).encode()
    except UnicodeEncodeError:
        return _encode_ascii(value).encode()


@dataclass(slots=True)
class Item:
    """One input value on its way through the pool.

    Attributes:
        source: The FILE it came from, "-" for standard input.
        line: Its line number in that file, from 1.
        end: How many bytes of all the input end with it.
        text: The input as JSON, ready to be written.
        value: What the function gets.
        error: Why the line is no valid input; the function is not called then.
    """

    source: str
    line: int
    end: int
    text: bytes
    value: object
    error: InputNotJSON | LineTooLong | None = None


class _Long:
    """Stands for a line that is too long."""

    def __init__(self, beginning: bytes, size: int) -> None:
        self.beginning = beginning
        self._size = size

    def __len__(self) -> int:
        return self._size


class Input:
    """The input files, one after the other, as items; holds one chunk of them at most.

    Args:
        sources: The files; "-" is standard input.
        stdin: The descriptor to read for "-"; it stays open.
        jsonl: Whether a line is a JSON value. If not, it is a string.
    """

    def __init__(self, sources: Sequence[str], stdin: int, *, jsonl: bool) -> None:
        self._sources = deque(sources)
        self._stdin = stdin
        self._parse = _parse_json if jsonl else _parse_text
        self._source = ""
        self._line = 0
        self._end = 0
        self._lines: deque[bytes | _Long] = deque()
        self._rest: list[bytes] = []
        self._rest_size = 0
        # Of a line that is too long only the beginning is kept.
        self._problems: list[str] = []
        self.total = _total_size(sources, stdin)
        self.fd: int | None = None
        """The descriptor to poll before the next `read`; None while no file is open."""

    @property
    def ended(self) -> bool:
        """Whether every item has been handed out."""
        return self.fd is None and not self._lines and not self._sources

    def next_item(self) -> Item | None:
        """Return the next item, None if more must be `read` first or the input has ended."""
        while True:
            while self._lines:
                line = self._lines.popleft()
                self._line += 1
                self._end += len(line) + 1
                if isinstance(line, _Long):
                    return Item(self._source, self._line, self._end, *_refuse_long(line))
                parsed = self._parse(line.removesuffix(b"\r"))
                if parsed is not None:
                    return Item(self._source, self._line, self._end, *parsed)
            if self.fd is not None or not self._sources:
                return None
            self._open(self._sources.popleft())

    def read(self) -> None:
        """Read one chunk of the open file. Call it only when `fd` is readable."""
        assert self.fd is not None
        try:
            chunk = os.read(self.fd, _READ_SIZE)
        except BlockingIOError:  # readable no longer: another reader of the same pipe was quicker
            return
        except OSError as error:
            self._problems.append(f"cannot read {self._source}: {error.strerror}")
            chunk = b""
        if chunk:
            first, *others = chunk.split(b"\n")
            self._add_to_rest(first)
            if others:
                self._lines.append(self._take_rest())
                self._add_to_rest(others.pop())
                self._lines.extend(others)
            return
        if self._rest_size:
            self._lines.append(self._take_rest())
        self.close()

    def _add_to_rest(self, piece: bytes) -> None:
        self._rest_size += len(piece)
        self._rest.append(piece)
        if self._rest_size > LONGEST_LINE:
            del self._rest[1:]

    def _take_rest(self) -> bytes | _Long:
        size, self._rest_size = self._rest_size, 0
        rest, self._rest = self._rest, []
        if size > LONGEST_LINE:
            return _Long(rest[0][:_SHOWN_OF_LONG_LINE], size)
        return b"".join(rest)

    def take_problems(self) -> list[str]:
        """Return what could not be opened or read since the last call."""
        problems, self._problems = self._problems, []
        return problems

    def close(self) -> None:
        """Close the open file, if there is one."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def _open(self, source: str) -> None:
        self._source = source
        self._line = 0
        try:
            if source == "-":
                self.fd = os.dup(self._stdin)
            else:
                # Without O_NONBLOCK the open of a named pipe waits for its writer, and meanwhile
                # no signal and no result is seen.
                self.fd = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            self._problems.append(f"cannot open {source}: {error.strerror}")


def _total_size(sources: Sequence[str], stdin: int) -> int | None:
    """Return how many bytes the sources hold, or None when one of them is no regular file."""
    total = 0
    for source in sources:
        try:
            found = os.fstat(stdin) if source == "-" else os.stat(source)
        except OSError:
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        total += found.st_size
    return total


_Refused = tuple[bytes, None, InputNotJSON | LineTooLong]
_Parsed = tuple[bytes, object] | _Refused


def _refuse_long(line: _Long) -> _Refused:
    message = (
        f"the line has {len(line)} bytes, more than {LONGEST_LINE}, and only its beginning is shown"
    )
    return _parse_text(line.beginning)[0], None, LineTooLong(message)


def _parse_text(line: bytes) -> _Parsed:
    value = line.decode("utf-8", "surrogateescape")
    return encode(value), value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


_decode_json = json.JSONDecoder(parse_constant=_refuse_constant).decode


def _parse_json(line: bytes) -> _Parsed | None:
    if not line.strip():
        return None
    try:
        # The line itself comes out again as "input": numbers and the order of keys stay.
        return line.strip(), _decode_json(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return _parse_text(line)[0], None, InputNotJSON(f"the line is not valid JSON: {error}")


def success_line(item: Item, result: object) -> bytes:
    """Return the output line of an item that went well.

    Raises:
        ResultNotJSON: The result cannot be written as JSON.
    """
    try:
        text = encode(result)
    except (TypeError, ValueError, RecursionError) as error:
        kind = type(result).__qualname__
        message = f"the result (of type {kind}) cannot be written as JSON: {error}"
        raise ResultNotJSON(message) from error
    return b'{"input": %b, "result": %b}\n' % (item.text, text)


def failure_line(item: Item, error: BaseException) -> bytes:
    """Return the output line of an item that failed."""
    return b'{"input": %b, "error": %b}\n' % (item.text, encode(describe(error)))


def describe(error: BaseException) -> dict[str, Any]:
    """Return type and message of an exception, whatever its ``__str__`` does."""
    try:
        message = str(error)
    except Exception as broken:
        message = f"(no message: its __str__ raised {type(broken).__qualname__})"
    return {"type": type(error).__qualname__, "message": message}
