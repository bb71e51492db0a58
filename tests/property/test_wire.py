"""Any bytes in any splits give messages or a broken reader, in bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from warmpool import wire

MESSAGES = st.lists(
    st.tuples(
        st.sampled_from(sorted(wire.FROM_WORKER)), st.integers(0, 2**64 - 1), st.binary(max_size=99)
    ),
    max_size=6,
)


def split(data, sizes):
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


@given(MESSAGES, st.lists(st.integers(1, 40)))
def test_what_goes_in_comes_out_whatever_the_splits(messages, sizes):
    data = b"".join(wire.header(k, t, len(b)) + b for k, t, b in messages)
    reader = wire.Reader(wire.FROM_WORKER)
    got = [message for part in split(data, sizes) if part for message in reader.feed(part)]
    assert got == messages
    assert reader.missing == 0


@given(st.binary(max_size=400), st.lists(st.integers(1, 40)))
def test_any_bytes_give_messages_or_break_the_reader(data, sizes):
    reader = wire.Reader(wire.FROM_WORKER)
    fed = 0
    for part in split(data, sizes):
        for kind, _, _ in reader.feed(part):
            assert kind in wire.FROM_WORKER
        fed += len(part)
        assert len(reader._body) <= fed
    if data and data[0] not in wire.FROM_WORKER:
        assert reader.broken


@given(MESSAGES, st.binary(min_size=1), st.lists(st.integers(1, 40)))
def test_garbage_behind_messages_costs_no_message_before_it(messages, garbage, sizes):
    garbage = b"\0" + garbage
    data = b"".join(wire.header(k, t, len(b)) + b for k, t, b in messages) + garbage
    reader = wire.Reader(wire.FROM_WORKER)
    got = [message for part in split(data, sizes) if part for message in reader.feed(part)]
    assert got == messages
    assert reader.broken
