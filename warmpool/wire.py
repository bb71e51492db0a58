"""Bytes ↔ messages on the data channel: sans I/O, incremental, used on both sides.

A message is a header of 17 bytes (kind, task, length of the body; little-endian) and a body. What
arrives is data (I13): the header is parsed without pickle, an unknown kind is refused at its first
byte, and memory grows with what has arrived, never with what a header promises.

Kinds lie above 0xF6, where neither text in UTF-8 nor the headers of ``multiprocessing`` begin, so
that stray output on the channel is seen at once for what it is.
"""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

HEADER: Final = struct.Struct("<BQQ")

# To the worker.
INITIALIZE: Final = 0xF8
RUN: Final = 0xF9
STOP: Final = 0xFA
# From the worker.
HELLO: Final = 0xFB
READY: Final = 0xFC
INITIALIZER_RAISED: Final = 0xFD
RETURNED: Final = 0xFE
RAISED: Final = 0xFF
LOG: Final = 0xF7
# From a template, which says none of the two above it: the bytes of this kind are all in use.
UNFIT: Final = 0xFE

TO_WORKER: Final = frozenset({INITIALIZE, RUN, STOP})
FROM_WORKER: Final = frozenset({HELLO, READY, INITIALIZER_RAISED, RETURNED, RAISED, LOG})
FROM_TEMPLATE: Final = frozenset({HELLO, READY, INITIALIZER_RAISED, UNFIT})

MAX_BODY: Final = 1 << 36
"""64 GiB: far above any real payload; a header above it is a lie."""

Message: TypeAlias = tuple[int, int, "bytes | bytearray"]
"""Kind, task (0 where there is none), body."""


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

    __slots__ = ("_body", "_head", "_kinds", "_max_body", "_missing", "_start", "broken")

    def __init__(self, kinds: frozenset[int], max_body: int = MAX_BODY) -> None:
        self._kinds = kinds
        self._max_body = max_body
        self._start = b""
        # Invariant: _start holds less than a header, and is empty while a body is being read.
        self._head: tuple[int, int] | None = None
        self._body = bytearray()
        self._missing = 0
        self.broken: str | None = None

    @property
    def missing(self) -> int:
        """How many bytes the message under way still needs; 0 if none is under way."""
        return self._missing

    def feed(self, data: bytes | memoryview) -> list[Message]:
        """Take in what has arrived and give the messages that are now complete."""
        if self._head is not None or self._start or self.broken is not None:
            return self._feed(memoryview(data))
        # Nearly always whole messages arrive.
        messages: list[Message] = []
        at, end = 0, len(data)
        while (body := at + HEADER.size) <= end:
            kind, task, length = HEADER.unpack_from(data, at)
            if body + length > end or length > self._max_body or kind not in self._kinds:
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
                taken = view[: self._missing]
                try:
                    self._body += taken
                except MemoryError:
                    # It costs the sender. The reader goes on with the memory that it gives back.
                    size = len(self._body) + self._missing
                    self._body = bytearray()
                    self.broken = f"a message of {size} bytes does not fit into the memory here"
                    break
                self._missing -= len(taken)
                view = view[len(taken) :]
                if self._missing == 0:
                    messages.append((*self._head, self._body))
                    self._head, self._body = None, bytearray()
        return messages

    def _feed_header(self, view: memoryview) -> memoryview:
        taken = view[: HEADER.size - len(self._start)]
        self._start += bytes(taken)
        if self._start[0] not in self._kinds:
            self.broken = f"no message begins with {self._start[:8]!r}"
        elif len(self._start) == HEADER.size:
            kind, task, length = HEADER.unpack(self._start)
            if length > self._max_body:
                self.broken = f"a message of {length} bytes is above the limit"
                return view[:0]
            self._head, self._missing, self._start = (kind, task), length, b""
        return view[len(taken) :]
