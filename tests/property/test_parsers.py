"""Any bytes of another process come to nothing but what their reader has a name for.

The same targets as ``python -m tests.fuzz`` has, with bytes by chance and with good ones bent.
"""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, messages_in, seeds
from warmpool import forker, servers, stacks, wire

SEEDS = seeds()

EDITS = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 20), st.binary(max_size=20)), max_size=5
)
"""Where, how many bytes to take out, and what to put there."""


def bent(seed, edits):
    for at, length, instead in edits:
        seed = seed[:at] + instead + seed[at + length :]
    return seed


@pytest.mark.parametrize("name", sorted(TARGETS))
@given(data=st.data())
def test_any_bytes_come_to_what_their_reader_has_a_name_for(name, data):
    seed = st.builds(bent, st.sampled_from(SEEDS[name]), EDITS)
    TARGETS[name](data.draw(st.one_of(st.binary(max_size=400), seed), label="bytes"))


def test_every_target_has_seeds_that_it_comes_through():
    assert set(SEEDS) == set(TARGETS)
    for name, good in SEEDS.items():
        assert good
        for seed in good:
            TARGETS[name](seed)


# ------------------------------------------------------------------------------- memory

LIE = 1 << 35
"""Bytes that a header promises."""
SLACK = 1 << 14


@given(
    before=st.lists(st.binary(max_size=200), max_size=3),
    come=st.integers(0, 200_000),
    size=st.sampled_from([1 << 10, 1 << 14, 1 << 18]),
)
@settings(max_examples=40)
def test_memory_grows_with_what_has_come_and_not_with_what_is_promised(before, come, size):
    """I13: as the allocator counts it."""
    start = b"".join(wire.header(wire.RETURNED, 1, len(body)) + body for body in before)
    data = start + wire.header(wire.RETURNED, 2, LIE) + bytes(come)
    reader = wire.Reader(wire.FROM_WORKER)
    tracemalloc.start()
    try:
        for at in range(0, len(data), size):
            reader.feed(memoryview(data)[at : at + size])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.missing == LIE - come
    # A growing array is copied now and then, and has room for an eighth more.
    assert peak <= 2.5 * len(data) + SLACK


@given(st.binary(min_size=1, max_size=50))
@settings(max_examples=20)
def test_a_request_that_promises_too_much_costs_a_forker_no_memory(body):
    promised = forker.REQUEST.pack(1, 2, 0xFFFF_FFFF)
    tracemalloc.start()
    try:
        TARGETS["requests_to_a_forker"](promised + body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


# ------------------------------------------------------------------------------- single cases


@pytest.mark.parametrize("outermost", ["<module>", "_run_module_as_main", "_bootstrap"])
def test_a_stack_is_whole_with_its_outermost_frame(outermost):
    """Else whoever waits for it waits in vain for what is not to come."""
    text = f'Current thread 0x01:\n  File "a.py", line 1 in f\n  File "b", line 2 in {outermost}\n'
    assert stacks.looks_complete(text)
    assert not stacks.looks_complete(text[:-1])
    assert not stacks.looks_complete(text.rpartition("  File")[0])


def test_the_reference_knows_the_protocol():
    frame = wire.header(wire.RETURNED, 3, 4) + b"body"
    kinds = wire.FROM_WORKER
    assert messages_in(frame + frame[:9], kinds, 99) == ([(wire.RETURNED, 3, [b"body"])], False)
    assert messages_in(frame + b"\0", kinds, 99) == ([(wire.RETURNED, 3, [b"body"])], True)
    assert messages_in(frame, kinds, 3) == ([], True)
    part = wire.header(wire.RESULT_PART, 3, 2) + b"ab"
    assert messages_in(part + frame, kinds, 99) == ([(wire.RETURNED, 3, [b"ab", b"body"])], False)
    assert messages_in(part + frame, kinds, 5) == ([], True)
    assert messages_in(part + wire.header(wire.RETURNED, 4, 0), kinds, 99) == ([], True)


def test_a_whole_message_above_the_limit_is_refused_too():
    reader = wire.Reader(wire.FROM_WORKER, 3)
    assert reader.feed(wire.header(wire.RETURNED, 3, 4) + b"body") == []
    assert reader.broken == "a message of 4 bytes is above the limit"


@pytest.mark.parametrize("answer", [0, 1 << 31, (1 << 63) - 1, -(1 << 63), -(1 << 40)])
def test_a_birth_that_cannot_be_is_an_error_of_the_systems(answer):
    """Nor is such a number taken for a process that might get signals."""
    for name in ("the_birth_of_a_worker", "the_pid_that_a_server_tells"):
        TARGETS[name]((b"\1" if "birth" in name else b"") + struct.pack("q", answer))
    with pytest.raises(OSError, match="no pid"):
        servers.check_pid(answer)
