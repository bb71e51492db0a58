"""The supervisor's end of a data channel, against a peer that does what it likes."""

from __future__ import annotations

import contextlib
import mmap
import os
import socket

import pytest

from warmpool import wire
from warmpool.channel import CHUNK, LARGEST_STEP, Channel, make_ends
from warmpool.room import LARGE, Room


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


PARTS = [b"a" * (3 * LARGE), b"b" * 10, bytearray(b"c" * LARGE)]


def test_parts_are_sent_ahead_of_their_message(ends):
    channel, theirs = ends
    body = wire.Parted(b"body", PARTS)
    reader = wire.Reader(wire.TO_WORKER)
    messages = []
    done = channel.send(wire.RUN, 5, body)
    assert not done
    while not messages:
        messages = reader.feed(os.read(theirs.fileno(), 1 << 20))
        done = channel.flush()
    assert done
    ((kind, task, got),) = messages
    assert (kind, task, got.body, got.parts) == (wire.RUN, 5, b"body", PARTS)


def test_who_reads_as_fast_as_is_written_does_not_hold_up_others(ends, monkeypatch):
    channel, _ = ends

    class Fast:
        def sendmsg(self, parts, *_):
            return sum(map(len, parts))

    monkeypatch.setattr(channel, "_socket", Fast())
    assert not channel.send(wire.RUN, 5, bytes(3 * LARGEST_STEP))
    assert not channel.flush()
    assert not channel.flush()
    assert channel.flush()
    assert channel.is_clear


def test_what_is_large_is_received_to_its_place(ends):
    channel, theirs = ends
    sending = socket.socket(fileno=os.dup(theirs.fileno()))
    sending.setblocking(False)
    unsent = b"".join(wire.Parted(b"body", PARTS).pieces(wire.RETURNED, 5))
    unsent += wire.header(wire.RETURNED, 6, 0)
    messages = []
    with sending:
        while len(messages) < 2:
            with contextlib.suppress(BlockingIOError):
                while unsent:
                    unsent = unsent[sending.send(unsent) :]
            got, at_end = channel.receive()
            messages += got
            assert not at_end
    (kind, task, body), last = messages
    assert (kind, task, body.body, body.parts) == (wire.RETURNED, 5, b"body", PARTS)
    assert type(body.parts[0].obj) is type(body.parts[2].obj) is mmap.mmap
    assert last == (wire.RETURNED, 6, b"")


@pytest.mark.parametrize("is_reset", [False, True])
def test_an_end_amid_what_is_large(ends, is_reset):
    channel, theirs = ends
    os.write(theirs.fileno(), wire.header(wire.RESULT_PART, 5, 2 * LARGE) + b"some of it")
    assert channel.receive() == ([], False)
    os.write(theirs.fileno(), b"and some more")
    assert channel.receive() == ([], False)
    with pytest.raises(BlockingIOError):
        channel.receive()
    if is_reset:
        channel.send(wire.RUN, 1, b"never read")
    theirs.close()
    assert channel.receive() == ([], True)


def test_a_part_that_does_not_fit_breaks_the_channel_and_not_the_host(ends, monkeypatch):
    channel, theirs = ends
    os.write(theirs.fileno(), wire.header(wire.RESULT_PART, 5, 2 * LARGE))
    assert channel.receive() == ([], False)

    def full(_room):
        raise MemoryError

    monkeypatch.setattr(Room, "_grow", full)
    os.write(theirs.fileno(), b"some of it")
    assert channel.receive() == ([], False)
    assert "does not fit into the memory here" in channel.broken
