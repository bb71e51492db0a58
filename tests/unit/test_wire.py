"""Bytes ↔ messages by examples; tests/property/test_wire.py has the rest."""

from __future__ import annotations

import pytest

from warmpool import wire
from warmpool.room import AHEAD, LARGE, Room


def message(kind, task, body):
    return wire.header(kind, task, len(body)) + body


def test_one_whole_message():
    reader = wire.Reader(wire.FROM_WORKER)
    assert reader.feed(message(wire.RETURNED, 7, b"abc")) == [(wire.RETURNED, 7, b"abc")]


@pytest.mark.parametrize("size", [1, 2, 16, 17, 18])
def test_split_anywhere(size):
    reader = wire.Reader(wire.FROM_WORKER)
    data = message(wire.HELLO, 0, b"") + message(wire.RETURNED, 7, b"abc")
    got = []
    for at in range(0, len(data), size):
        got += reader.feed(data[at : at + size])
    assert got == [(wire.HELLO, 0, b""), (wire.RETURNED, 7, b"abc")]


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello world",
        b"\0" * 17,
        (0x7FFFFFFF).to_bytes(4, "big"),
        b"\xc3\xa9t\xc3\xa9",
        b"\x80\x05N.",
    ],
)
def test_garbage_is_refused_at_its_first_byte(garbage):
    reader = wire.Reader(wire.FROM_WORKER)
    assert reader.feed(garbage[:1]) == []
    assert "no message begins with" in reader.broken


def test_a_kind_of_the_other_direction_is_refused():
    reader = wire.Reader(wire.FROM_WORKER)
    assert reader.feed(message(wire.RUN, 1, b"")) == []
    assert reader.broken


def test_garbage_behind_a_message_is_refused_and_the_message_is_not():
    reader = wire.Reader(wire.FROM_WORKER)
    assert reader.feed(message(wire.RETURNED, 7, b"abc") + b"x") == [(wire.RETURNED, 7, b"abc")]
    assert reader.broken
    assert reader.feed(message(wire.RETURNED, 8, b"")) == []


def test_a_promise_above_the_limit_is_refused_and_one_below_costs_nothing():
    reader = wire.Reader(wire.FROM_WORKER)
    assert reader.feed(wire.header(wire.RETURNED, 1, wire.MAX_BODY + 1)) == []
    assert "above the limit" in reader.broken
    reader = wire.Reader(wire.FROM_WORKER)
    assert reader.feed(wire.header(wire.RETURNED, 1, 2 << 30)) == []
    assert reader.missing == 2 << 30
    assert len(reader.room) == AHEAD


@pytest.mark.parametrize("kind", sorted(wire.PART_OF))
def test_parts_together_are_not_above_the_limit_either(kind):
    reader = wire.Reader(frozenset({kind, wire.PART_OF[kind]}), max_body=100)
    assert reader.feed(message(kind, 1, b"x" * 60)) == []
    assert reader.broken is None
    assert reader.feed(wire.header(kind, 1, 41)) == []
    assert reader.broken == "a message of 101 bytes is above the limit"


def parted(kind, task, body, *parts):
    return b"".join(wire.Parted(body, parts).pieces(kind, task))


@pytest.mark.parametrize("part_kind", sorted(wire.PART_OF))
@pytest.mark.parametrize("sizes", [(5,), (5, LARGE), (LARGE, 0, LARGE + 1), (2 * LARGE, 2 * LARGE)])
def test_parts_go_ahead_of_their_message_and_come_with_it(part_kind, sizes):
    kind = wire.PART_OF[part_kind]
    parts = [bytes([65 + at]) * size for at, size in enumerate(sizes)]
    reader = wire.Reader(frozenset({kind, part_kind}))
    data = parted(kind, 7, b"body", *parts) + message(kind, 8, b"next")
    (first, second) = reader.feed(data)
    assert first[:2] == (kind, 7)
    assert (first[2].body, first[2].parts) == (b"body", parts)
    assert len(first[2]) == 4 + sum(sizes)
    assert second == (kind, 8, b"next")


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        (wire.RETURNED, 8),
        (wire.RESULT_PART, 8),
        (wire.RAISED, 7),
        (wire.LOG, 7),
        (wire.HELLO, 0),
        (wire.READY, 0),
    ],
)
def test_a_part_that_is_followed_by_anything_else_breaks_the_reader(kind, task):
    reader = wire.Reader(wire.FROM_WORKER)
    good = message(wire.RETURNED, 6, b"good")
    stray = message(wire.RESULT_PART, 7, b"part") + message(kind, task, b"")
    assert reader.feed(good + stray) == [(wire.RETURNED, 6, b"good")]
    assert "a part of a message is followed by" in reader.broken
    assert not reader._parts, "it gives back what it has"
    assert reader.feed(good) == []


def test_a_part_alone_is_no_message():
    reader = wire.Reader(wire.FROM_WORKER)
    assert reader.feed(message(wire.RESULT_PART, 7, b"part")) == []
    assert reader.broken is None


def test_a_template_sends_no_parts():
    reader = wire.Reader(wire.FROM_TEMPLATE)
    assert reader.feed(message(wire.RESULT_PART, 7, b"part")) == []
    assert "no message begins with" in reader.broken


def test_what_is_large_is_put_to_its_place_at_once():
    reader = wire.Reader(wire.FROM_WORKER)
    assert reader.room is None
    assert reader.feed(wire.header(wire.RESULT_PART, 7, 2 * LARGE) + b"ab") == []
    room = reader.room
    assert len(room) == 2 * LARGE - 2 == reader.missing
    room[:3] = b"cde"
    assert reader.took(3) == []
    room = reader.room
    room[:] = bytes(len(room))
    assert reader.took(len(room)) == []
    assert reader.room is None
    ((_, _, body),) = reader.feed(message(wire.RETURNED, 7, b"body"))
    assert body.parts == [b"abcde" + bytes(2 * LARGE - 5)]


def full(_room):
    raise MemoryError


def test_a_part_that_does_not_fit_into_memory_breaks_the_reader_alone(monkeypatch):
    reader = wire.Reader(wire.FROM_WORKER)
    part = message(wire.RESULT_PART, 7, b"part")
    assert reader.feed(part + wire.header(wire.RESULT_PART, 7, 2 * LARGE)) == []
    monkeypatch.setattr(Room, "_grow", full)
    assert reader.room is None
    assert reader.broken == f"a message of {2 * LARGE} bytes does not fit into the memory here"
    assert reader.missing == 0
    assert not reader._parts, "it gives back what it has"


def test_directions_are_disjoint():
    assert not wire.TO_WORKER & wire.FROM_WORKER


class Full(bytearray):
    """As a body that the process has no memory for."""

    def __iadd__(self, other):
        raise MemoryError


def test_a_body_that_does_not_fit_into_memory_breaks_the_reader_alone():
    reader = wire.Reader(wire.FROM_WORKER)
    good = wire.header(wire.READY, 0, 0)
    begun = wire.header(wire.RETURNED, 5, 10**6) + b"x" * 10
    assert reader.feed(good + begun) == [(wire.READY, 0, b"")]
    reader._body._body = Full(b"x" * 10)
    assert reader.feed(b"y" * 1000) == []
    assert reader.broken == "a message of 1000000 bytes does not fit into the memory here"
    assert reader.missing == 0, "it gives back what it has"
    assert reader.feed(good) == []
