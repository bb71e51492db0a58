"""Any bytes in any splits give messages or a broken reader, in bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmpool import room, wire

TASKS = st.integers(0, 2**64 - 1)
BODIES = st.binary(max_size=99)
PLAIN = st.tuples(st.sampled_from(sorted(wire.FROM_WORKER - set(wire.PART_OF))), TASKS, BODIES)
PARTED = st.builds(
    lambda task, body, parts: (wire.RETURNED, task, wire.Parted(body, parts)),
    TASKS,
    BODIES,
    st.lists(BODIES, min_size=1, max_size=4),
)
MESSAGES = st.lists(st.one_of(PLAIN, PARTED), max_size=6)


def written(messages):
    return b"".join(
        b"".join(body.pieces(kind, task))
        if isinstance(body, wire.Parted)
        else wire.header(kind, task, len(body)) + body
        for kind, task, body in messages
    )


def plain(messages):
    """As values that can be compared."""
    return [
        (kind, task, body.body, list(body.parts))
        if isinstance(body, wire.Parted)
        else (kind, task, body)
        for kind, task, body in messages
    ]


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """What is received to its place is smaller here, and so is what is reserved for it."""
    monkeypatch.setattr(wire, "LARGE", 30)
    monkeypatch.setattr(room, "AHEAD", 40)


def split(data, sizes):
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


def read(reader, data, sizes, direct):
    """Feed it, and put some of what is large to its place."""
    for number, part in enumerate(split(data, sizes)):
        while part:
            place = reader.room if direct[number % len(direct)] else None
            if place is None:
                yield from reader.feed(part)
                break
            count = min(len(place), len(part))
            place[:count] = part[:count]
            part = part[count:]
            yield from reader.took(count)


SPLITS = st.lists(st.integers(1, 40))
DIRECT = st.lists(st.booleans(), min_size=1)


@given(MESSAGES, SPLITS, DIRECT)
def test_what_goes_in_comes_out_whatever_the_splits(messages, sizes, direct):
    reader = wire.Reader(wire.FROM_WORKER)
    got = list(read(reader, written(messages), sizes, direct))
    assert plain(got) == plain(messages)
    assert reader.broken is None
    assert reader.missing == 0


@given(st.binary(max_size=400), SPLITS, DIRECT)
def test_any_bytes_give_messages_or_break_the_reader(data, sizes, direct):
    reader = wire.Reader(wire.FROM_WORKER)
    for kind, _, _ in read(reader, data, sizes, direct):
        assert kind in wire.FROM_WORKER - set(wire.PART_OF)
    if data and data[0] not in wire.FROM_WORKER:
        assert reader.broken


LIES = st.lists(
    st.tuples(
        st.sampled_from(sorted(wire.FROM_WORKER)), st.integers(0, 2), st.integers(0, 2**63), BODIES
    ),
    max_size=8,
)


@given(LIES, SPLITS, DIRECT)
def test_memory_grows_with_what_arrives_not_with_what_is_promised(lies, sizes, direct):
    data = b"".join(wire.header(k, t, min(n, len(b))) + b for k, t, n, b in lies[:-1])
    data += b"".join(wire.header(k, t, n) + b for k, t, n, b in lies[-1:])
    reader = wire.Reader(wire.FROM_WORKER)
    for kind, _, body in read(reader, data, sizes, direct):
        assert kind in wire.FROM_WORKER - set(wire.PART_OF)
        if isinstance(body, wire.Parted):
            assert kind == wire.RETURNED
    assert sum(len(part) for *_, part in reader._parts) <= len(data)
    place = reader.room
    if place is not None:
        assert len(place) <= max(room.AHEAD, 2 * len(data))


@given(MESSAGES, st.binary(min_size=1), SPLITS, DIRECT)
def test_garbage_behind_messages_costs_no_message_before_it(messages, garbage, sizes, direct):
    data = written(messages) + b"\0" + garbage
    reader = wire.Reader(wire.FROM_WORKER)
    got = list(read(reader, data, sizes, direct))
    assert plain(got) == plain(messages)
    assert reader.broken
