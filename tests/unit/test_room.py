"""Memory for what is large and arrives bit by bit."""

from __future__ import annotations

import mmap
import os

import pytest

from warmpool import room
from warmpool.room import Room


@pytest.fixture
def small(monkeypatch):
    """Little is reserved ahead."""
    monkeypatch.setattr(room, "AHEAD", 10_000)


def no_mapping(_size):
    return None


def fill(place, data, step):
    """Put it in, and tell how much was reserved at most."""
    most = 0
    while data:
        free = place.free
        most = max(most, place.size - place.missing + len(free))
        count = min(step, len(free), len(data))
        free[:count] = data[:count]
        data = data[count:]
        place.took(count)
    return most


@pytest.mark.parametrize("maps", [True, False], ids=["mapping", "no mapping left"])
@pytest.mark.parametrize("step", [1 << 30, 4097])
def test_what_is_put_in_comes_out_and_no_more_is_reserved_than_that_takes(
    small, monkeypatch, maps, step
):
    if not maps:
        monkeypatch.setattr(room, "_mapping", no_mapping)
        monkeypatch.setattr(room, "LARGE", 10_000)
    data = os.urandom(300_000)
    place = Room(len(data))
    assert len(place.free) == 10_000
    fill(place, data[:100_000], step)
    assert len(place.free) <= 100_000
    fill(place, data[100_000:], step)
    assert place.missing == 0
    contents = place.contents()
    assert contents == data
    assert not contents.readonly


def test_it_goes_on_with_other_memory_where_a_mapping_cannot_grow(small, monkeypatch):
    class Stiff(mmap.mmap):
        def resize(self, _size):
            raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(room, "_mapping", lambda size: Stiff(-1, size))
    data = os.urandom(50_000)
    place = Room(len(data))
    fill(place, data, 3_000)
    contents = place.contents()
    assert type(contents.obj) is bytearray
    assert contents == data


def test_what_is_fed_may_be_more_than_is_missing(small):
    data = os.urandom(30_000)
    place = Room(20_000)
    assert place.put(memoryview(data[:5])) == 5
    assert place.put(memoryview(data[5:])) == 19_995
    assert place.contents() == data[:20_000]


def test_where_no_mapping_can_grow_all_is_reserved_at_once(small, monkeypatch):
    monkeypatch.setattr(room, "_CAN_GROW", False)
    assert len(Room(50_000).free) == 50_000


def test_it_ends_with_the_last_who_uses_it():
    place = Room(8 * mmap.PAGESIZE)
    fill(place, bytes(8 * mmap.PAGESIZE), 1 << 20)
    contents = place.contents()
    mapping, part = contents.obj, contents[5:]
    del place
    with pytest.raises(BufferError):
        mapping.close()
    contents.release()
    part.release()
    mapping.close()


@pytest.mark.parametrize("maps", [True, False], ids=["mapping", "no mapping left"])
def test_a_copy_is_another(monkeypatch, maps):
    if not maps:
        monkeypatch.setattr(room, "_mapping", no_mapping)
    data = bytearray(os.urandom(10_000))
    before = bytes(data)
    copy = room.copied(memoryview(data))
    data[5] ^= 255
    assert copy == before
    assert not copy.readonly


@pytest.mark.parametrize("size", [1 << 60, 1 << 80])
def test_what_there_is_no_address_space_for_is_not_mapped(size):
    assert room._mapping(size) is None


def test_a_kernel_without_large_pages(monkeypatch):
    monkeypatch.setattr(room, "_HUGE", -1)
    assert room.copied(memoryview(b"abc")) == b"abc"
