"""The supervisor's end of a data channel, against a peer that does what it likes."""

from __future__ import annotations

import os
import socket

import pytest

from warmpool import wire
from warmpool.channel import CHUNK, Channel, make_ends


@pytest.fixture
def ends():
    ours, theirs = make_ends()
    channel = Channel(ours, bytearray(CHUNK))
    yield channel, theirs
    channel.close()
    if not theirs.closed:
        theirs.close()


def read(connection, count):
    data = b""
    while len(data) < count:
        data += os.read(connection.fileno(), count - len(data))
    return data


def test_a_small_message_goes_in_one_piece(ends):
    channel, theirs = ends
    assert channel.send(wire.RUN, 5, b"body")
    assert read(theirs, 21) == wire.header(wire.RUN, 5, 4) + b"body"


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, 5 * CHUNK])
def test_what_does_not_fit_waits_and_never_blocks(ends, size):
    channel, theirs = ends
    body = os.urandom(size)
    done = channel.send(wire.RUN, 5, body)
    second = channel.send(wire.STOP, 0, b"")
    assert done == second or not second
    got = bytearray()
    total = 2 * wire.HEADER.size + size
    while len(got) < total:
        got += os.read(theirs.fileno(), 1 << 20)
        done = channel.flush()
    assert done
    assert got == wire.header(wire.RUN, 5, size) + body + wire.header(wire.STOP, 0, 0)


def test_sending_to_the_dead_is_no_error(ends):
    channel, theirs = ends
    theirs.close()
    assert channel.send(wire.RUN, 5, b"body")
    assert channel.send(wire.RUN, 5, bytes(2 * CHUNK))


def test_half_a_message_is_no_message_and_does_not_block(ends):
    """I3: Connection.recv() would block here."""
    channel, theirs = ends
    with pytest.raises(BlockingIOError):
        channel.receive()
    os.write(theirs.fileno(), wire.header(wire.RETURNED, 1, 100) + b"half")
    assert channel.receive() == ([], False)
    with pytest.raises(BlockingIOError):
        channel.receive()


def test_the_end_of_file_is_told(ends):
    channel, theirs = ends
    os.write(theirs.fileno(), wire.header(wire.HELLO, 0, 0))
    theirs.close()
    assert channel.receive() == ([(wire.HELLO, 0, b"")], False)
    assert channel.receive() == ([], True)


def test_a_reset_is_an_end_of_file_too(ends):
    channel, theirs = ends
    channel.send(wire.RUN, 1, b"never read")
    with socket.socket(fileno=os.dup(theirs.fileno())):
        theirs.close()
    assert channel.receive() == ([], True)


def test_one_reading_takes_a_chunk_at_most(ends):
    channel, theirs = ends
    os.set_blocking(theirs.fileno(), False)
    try:
        while True:
            os.write(theirs.fileno(), wire.header(wire.HELLO, 0, 0) * 1000)
    except BlockingIOError:
        pass
    messages, _ = channel.receive()
    assert 0 < len(messages) <= CHUNK // wire.HEADER.size
