"""Bytes ↔ messages on the data channel: sans I/O, incremental, used on both sides.

A message is a header of 17 bytes (kind, task, length of the body; little-endian) and a body. What
arrives is data (I13): the header is parsed without pickle, an unknown kind is refused at its first
byte, and memory grows with what has arrived, never with what a header promises.

Large buffers of arguments and results go ahead of the message that they belong to, as messages of a
kind of their own: so each can be received where it is going to be used.

Kinds lie above 0xF4, where neither text in UTF-8 nor the headers of ``multiprocessing`` begin, so
that stray output on the channel is seen at once for what it is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

from warmpool.room import LARGE, Room

HEADER: Final = struct.Struct("<BQQ")

# To the worker.
ARGUMENT_PART: Final = 0xF5
INITIALIZE: Final = 0xF8
RUN: Final = 0xF9
STOP: Final = 0xFA
# From the worker.
RESULT_PART: Final = 0xF6
HELLO: Final = 0xFB
READY: Final = 0xFC
INITIALIZER_RAISED: Final = 0xFD
RETURNED: Final = 0xFE
RAISED: Final = 0xFF
LOG: Final = 0xF7
# From a template, which says none of the two above it: the bytes of this kind are all in use.
UNFIT: Final = 0xFE

TO_WORKER: Final = frozenset({INITIALIZE, RUN, STOP, ARGUMENT_PART})
FROM_WORKER: Final = frozenset(
    {HELLO, READY, INITIALIZER_RAISED, RETURNED, RAISED, LOG, RESULT_PART}
)
FROM_TEMPLATE: Final = frozenset({HELLO, READY, INITIALIZER_RAISED, UNFIT})

PART_OF: Final = {ARGUMENT_PART: RUN, RESULT_PART: RETURNED}
"""What the parts belong to that have gone ahead."""
_PARTS: Final = {kind: part for part, kind in PART_OF.items()}
_TO_A_ROOM: Final = frozenset(PART_OF) | frozenset(_PARTS)

MAX_BODY: Final = 1 << 36
"""64 GiB: far above any real payload; a header above it is a lie."""

Bytes: TypeAlias = "bytes | bytearray | memoryview"


class Parted:
    """A body whose large buffers are apart from it.

    Attributes:
        body: What refers to them, in their order.
        parts: The buffers.
    """

    __slots__ = ("body", "parts")

    def __init__(self, body: Bytes, parts: Sequence[Bytes]) -> None:
        self.body = body
        self.parts = parts

    def __len__(self) -> int:
        return len(self.body) + sum(map(len, self.parts))

    def pieces(self, kind: int, task: int) -> Iterator[Bytes]:
        """What is to be written for a message of this kind."""
        part_kind = _PARTS[kind]
        for part in self.parts:
            yield header(part_kind, task, len(part))
            yield part
        yield header(kind, task, len(self.body))
        yield self.body


Body: TypeAlias = "Bytes | Parted"

Message: TypeAlias = tuple[int, int, Any]
"""Kind, task (0 where there is none), body: a ``Body`` where ``PART_OF`` has that kind, else
``bytes`` or a ``bytearray``."""


def header(kind: int, task: int, length: int) -> bytes:
    """The bytes that go before a body of this length."""
    return HEADER.pack(kind, task, length)


class Reader:
    """Cuts a stream of bytes into messages.

    Args:
        kinds: The kinds that this side accepts.
        max_body: The largest body accepted, in bytes.

    Attributes:
        broken: Why the bytes are no messages, None as long as they are. Nothing is read any more
            then; the messages before that are good: a result that arrived is a result.
    """

    __slots__ = (
        "_body",
        "_head",
        "_in_parts",
        "_kinds",
        "_max_body",
        "_parts",
        "_start",
        "_whole",
        "broken",
    )

    def __init__(self, kinds: frozenset[int], max_body: int = MAX_BODY) -> None:
        self._kinds = kinds
        self._whole = kinds - frozenset(PART_OF)
        self._max_body = max_body
        self._start = b""
        # Invariant: _start holds less than a header, and is empty while a body is being read.
        self._head: tuple[int, int] | None = None
        self._body: _Small | Room = _NOTHING
        # What has gone ahead of the message that it is part of.
        self._parts: list[tuple[int, int, Bytes]] = []
        self._in_parts = 0
        self.broken: str | None = None

    @property
    def missing(self) -> int:
        """How many bytes the message under way still needs; 0 if none is under way."""
        return self._body.missing

    @property
    def room(self) -> memoryview | None:
        """Where the next bytes may be put at once, instead of feeding them; see :meth:`took`.

        None if they have to be fed. Not to be kept until after :meth:`took`.
        """
        body = self._body
        if body is _NOTHING or type(body) is not Room:  # Nearly always the former.
            return None
        try:
            return body.free
        except MemoryError:
            self._give_up()
            return None

    def took(self, count: int) -> list[Message]:
        """So many bytes were put into the room; gives the messages that are now complete."""
        body = self._body
        assert type(body) is Room
        body.took(count)
        return [] if body.missing else self._complete()

    def feed(self, data: bytes | memoryview) -> list[Message]:
        """Take in what has arrived and give the messages that are now complete."""
        if self._head is not None or self._start or self._parts or self.broken is not None:
            return self._feed(memoryview(data))
        # Nearly always whole messages arrive.
        messages: list[Message] = []
        at, end = 0, len(data)
        while (body := at + HEADER.size) <= end:
            kind, task, length = HEADER.unpack_from(data, at)
            if body + length > end or length > self._max_body or kind not in self._whole:
                break
            at = body + length
            messages.append((kind, task, bytes(data[body:at])))
        if at < end:
            messages += self._feed(memoryview(data)[at:])
        return messages

    def _feed(self, view: memoryview) -> list[Message]:
        messages: list[Message] = []
        while view and self.broken is None:
            if self._head is None:
                view = self._feed_header(view)
            if self._head is not None:
                try:
                    view = view[self._body.put(view) :]
                except MemoryError:
                    self._give_up()
                    break
                if self._body.missing == 0:
                    messages += self._complete()
        return messages

    def _feed_header(self, view: memoryview) -> memoryview:
        taken = view[: HEADER.size - len(self._start)]
        self._start += bytes(taken)
        if self._start[0] not in self._kinds:
            self.broken = f"no message begins with {self._start[:8]!r}"
        elif len(self._start) == HEADER.size:
            kind, task, length = HEADER.unpack(self._start)
            if self._in_parts + length > self._max_body:
                self.broken = f"a message of {self._in_parts + length} bytes is above the limit"
                return view[:0]
            if self._parts and self._is_stray(kind, task):
                return view[:0]
            self._head, self._start = (kind, task), b""
            self._body = Room(length) if length >= LARGE and kind in _TO_A_ROOM else _Small(length)
        return view[len(taken) :]

    def _is_stray(self, kind: int, task: int) -> bool:
        part_kind, part_task, _ = self._parts[0]
        if (PART_OF.get(kind, kind), task) == (PART_OF[part_kind], part_task):
            return False
        self.broken = f"a part of a message is followed by kind {kind:#x} of task {task}"
        self._parts.clear()
        return True

    def _complete(self) -> list[Message]:
        assert self._head is not None
        (kind, task), contents = self._head, self._body.contents()
        self._head, self._body = None, _NOTHING
        if kind in PART_OF:
            self._parts.append((kind, task, contents))
            self._in_parts += len(contents)
            return []
        if not self._parts:
            return [(kind, task, contents)]
        parts, self._parts, self._in_parts = self._parts, [], 0
        return [(kind, task, Parted(contents, [part for _, _, part in parts]))]

    def _give_up(self) -> None:
        # It costs the sender. The reader goes on with the memory that it gives back.
        size = self._body.size
        self._body = _NOTHING
        self._parts.clear()
        self.broken = f"a message of {size} bytes does not fit into the memory here"


class _Small:
    """As :class:`Room`, for what is small."""

    __slots__ = ("_body", "missing", "size")

    def __init__(self, size: int) -> None:
        self.size = self.missing = size
        self._body = bytearray()

    def put(self, data: memoryview) -> int:
        taken = data[: self.missing]
        self._body += taken
        self.missing -= len(taken)
        return len(taken)

    def contents(self) -> bytearray:
        return self._body


_NOTHING: Final = _Small(0)
