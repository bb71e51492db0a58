"""What the host holds of a process that a server has forked."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest

from warmpool import servers

STATUS = struct.pack("=q", 3)


class Popen(servers.Popen):
    """Of no process; the status comes when the test says so."""

    def _launch(self, process_obj):
        reading, self.writing = os.pipe()
        self.keep_status(reading)
        self.pid = 0


@pytest.fixture
def popen() -> Iterator[Popen]:
    popen = Popen(None)
    yield popen
    popen.close()
    os.close(popen.writing)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_a_status_is_read_once_it_has_come(popen):
    assert popen.poll() is None
    os.write(popen.writing, STATUS)
    assert popen.poll() == 3
    popen.close()
    assert not is_open(popen.sentinel)
    assert popen.poll() == 3


def test_one_that_is_closed_is_not_read_any_more(popen):
    os.write(popen.writing, STATUS)
    popen.close()
    assert popen.poll() is None


def test_who_reads_a_status_while_it_is_closed_does_not_read_from_a_stranger(popen, monkeypatch):
    """Any thread that starts a process does, and the next descriptor gets the lowest number."""
    real, strangers = servers.is_readable, []

    def close_and_open(descriptor):
        readable = real(descriptor)
        popen.close()
        strangers.extend(os.pipe())
        os.write(strangers[1], b"an answer of a worker's")
        return readable

    monkeypatch.setattr(servers, "is_readable", close_and_open)
    os.write(popen.writing, STATUS)
    try:
        assert popen.poll() == 3
        assert os.read(strangers[0], 100) == b"an answer of a worker's"
        assert not is_open(popen.sentinel)
    finally:
        for descriptor in strangers:
            os.close(descriptor)
