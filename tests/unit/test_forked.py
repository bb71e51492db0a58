"""A fork, as the process that has made it holds it."""

from __future__ import annotations

import os
import socket

import pytest

from warmpool import forked

NOBODY = 1 << 23
"""Above the highest number that Linux gives to a process."""


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_one_that_was_collected_by_a_hook_can_be_dismissed(ends):
    ours, theirs = ends
    forked.Fork(NOBODY, ours).dismiss()
    assert theirs.recv(1) == b"", "one that lives on would wait for ever"


def test_one_that_is_dead_is_told_nothing(ends):
    ours, theirs = ends
    theirs.close()
    assert not forked.Fork(NOBODY, ours).tell(b"x" * forked.ORDER.size, [2])
    assert ours.fileno() == -1


def test_one_that_lives_is_told_once_and_gets_copies(ends):
    ours, theirs = ends
    with open(os.devnull) as file:
        assert forked.Fork(NOBODY, ours).tell(b"x" * forked.ORDER.size, [file.fileno()])
    order, (copy,), is_complete = forked.receive(theirs, forked.ORDER.size)
    with open(copy) as received:
        assert os.path.samestat(os.fstat(received.fileno()), os.stat(os.devnull))
        assert not os.get_inheritable(received.fileno())
    assert (order, is_complete) == (b"x" * forked.ORDER.size, True)
    assert forked.receive(theirs, 1) == (b"", [], True)
