"""Bytes ↔ messages by examples; tests/property/test_wire.py has the rest."""

from __future__ import annotations

import pytest

from warmpool import wire


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
    assert len(reader._body) == 0


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
    reader._body = Full(b"x" * 10)
    assert reader.feed(b"y" * 1000) == []
    assert reader.broken == "a message of 1000000 bytes does not fit into the memory here"
    assert reader._body == b"", "it gives back what it has"
    assert reader.feed(good) == []
