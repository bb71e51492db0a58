"""What is large goes apart from the pickle, and comes back as what it was."""

from __future__ import annotations

import pickle
import sys

import pytest

from tests.helpers.payloads import Grid, OnPickling, large_values
from warmpool import largebytes, parts, payload
from warmpool.room import LARGE
from warmpool.wire import Parted


def received(body):
    """As it is on the other side: each part in memory of its own."""
    if not isinstance(body, Parted):
        return body
    return Parted(bytes(body.body), [memoryview(bytearray(part)) for part in body.parts])


def there_and_back(value):
    return payload.loads(received(payload.dumps.result(value)))


@pytest.fixture(params=["pickle", "cloudpickle"])
def dumps(request):
    if request.param == "cloudpickle":
        pytest.importorskip("cloudpickle")
    return payload.dumper(request.param)


@pytest.mark.parametrize("size", [LARGE - 1, LARGE, LARGE + 1])
def test_values_of_all_kinds_come_back(dumps, size):
    value = large_values(size)
    _, (back,), _ = payload.load_task(received(dumps.task(len, (value,), {})))
    assert back == value
    assert payload.loads(received(dumps.result(value))) == value
    assert type(back["bytes"][0]) is bytes
    assert type(back["bytearray"]) is bytearray
    assert not back["grid"].cells.readonly
    assert back["read-only"].cells.readonly


def test_only_what_is_large_is_apart(dumps):
    assert type(dumps.result(large_values(LARGE - 1))) is bytes
    body = dumps.result(large_values(LARGE))
    assert [len(part) for part in body.parts] == 5 * [LARGE]
    # The text is no buffer.
    assert LARGE <= len(body.body) < LARGE + 1000
    assert len(body) == len(body.body) + 5 * LARGE


def test_a_large_argument_or_result_by_itself_is_apart(dumps):
    large = b"x" * LARGE
    assert dumps.result(large).parts == [large]
    assert dumps.task(len, (large,), {}).parts == [large]
    assert dumps.task(len, (), {"obj": large}).parts == [large]
    assert dumps.task(len, (3, large[:-1]), {}).__class__ is bytes


def test_what_cannot_change_is_not_copied(dumps):
    large, changing = b"x" * LARGE, bytearray(b"y" * LARGE)
    (part,) = dumps.task(len, (large,), {}).parts
    assert part is large
    (part,) = dumps.result(large).parts
    assert part is large
    (part,) = dumps.result(changing).parts
    assert part is changing


def test_later_changes_of_an_argument_do_not_matter(dumps):
    changing, grid = bytearray(b"y" * LARGE), Grid(bytearray(b"z" * LARGE))
    body = dumps.task(len, ([changing, grid],), {})
    changing[:] = b""
    grid.cells[0] = 0
    _, (back,), _ = payload.load_task(received(body))
    assert back == [b"y" * LARGE, Grid(b"z" * LARGE)]


def test_the_same_object_twice_is_one_part_and_one_object(dumps):
    large = bytearray(b"x" * LARGE)
    body = dumps.result([large, large])
    assert len(body.parts) == 1
    one, other = payload.loads(received(body))
    assert one is other


def test_a_subclass_keeps_its_class(dumps):
    class Own(bytearray):
        pass

    globals()["Own"] = Own
    Own.__qualname__ = "Own"
    value = Own(b"x" * LARGE)
    value.extra = 5
    back = payload.loads(received(dumps.result(value)))
    del globals()["Own"]
    assert type(back) is Own
    assert back == value
    assert back.extra == 5


def test_a_body_can_be_read_twice(dumps):
    value = large_values(LARGE)
    body = received(dumps.result(value))
    assert payload.loads(body) == payload.loads(body) == value


def test_what_is_pickled_in_one_piece_stays_so(dumps):
    """Errors and initializers: the supervisor reads those, or a template does."""
    value = large_values(LARGE)
    assert pickle.loads(dumps(value)) == value


def test_what_pickling_raises_is_raised(dumps):
    with pytest.raises(ZeroDivisionError):
        dumps.result([b"x" * LARGE, OnPickling(divmod, 1, 0)])


def test_values_go_apart_in_the_order_in_which_they_are_referred_to(dumps):
    value = []
    for at in range(30):
        data = bytes([at]) * (LARGE + at)
        value.append([data, bytearray(data), Grid(bytearray(data))][at % 3])
        value.append("between" * (20_000 if at % 4 == 0 else at))
    body = dumps.result(value)
    assert [part[0] for part in map(memoryview, body.parts)] == list(range(30))
    assert payload.loads(received(body)) == value


@pytest.mark.parametrize("dump", [pickle._Pickler, pickle.Pickler], ids=["Python", "C"])
def test_picklers_in_c_and_in_python(dump):
    def make(file, callback):
        return dump(file, 5, buffer_callback=callback)

    pickling = parts.Dumps(make, is_own=False)
    value = large_values(LARGE)
    body = pickling.result(value)
    assert len(body.parts) == 5
    assert payload.loads(received(body)) == value
    assert pickle._loads(body.body, buffers=body.parts) == value


@pytest.mark.parametrize(
    "before", [b"", b"B" + (LARGE - 1).to_bytes(4, "little"), b"X" + LARGE.to_bytes(4, "little")]
)
def test_an_announcement_that_is_none_leaves_it_in_the_pickle(before):
    """A pickler that is not CPython's may write otherwise."""

    class Other:
        def __init__(self, file, _callback):
            self.file = file

        def dump(self, value):
            if before:
                self.file.write(before)
            self.file.write(value)

    large = b"x" * LARGE
    assert parts.Dumps(Other, is_own=False).result(large) == before + large


MAPPED = parts._MAPPED


@pytest.mark.parametrize("size", [MAPPED - 1, MAPPED, MAPPED + 1, MAPPED + 4096])
def test_large_bytes_are_made_of_a_part(size):
    data = bytearray(bytes(range(256)) * (size // 256 + 1))[:size]
    made, another = parts.as_bytes(memoryview(data)), bytes(data)
    assert type(made) is bytes
    assert made == data
    assert sys.getrefcount(made) == sys.getrefcount(another)
    data[0] = 99
    assert made[0] == 0


def test_they_are_also_made_where_ctypes_is_missing(monkeypatch):
    data = memoryview(bytearray(b"x" * MAPPED))
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert largebytes._find() is None
    monkeypatch.setattr(largebytes, "copied", None)
    assert parts.as_bytes(data) == data


def test_they_are_also_made_by_a_signal_handler_amid_the_import(monkeypatch):
    data = memoryview(bytearray(b"x" * MAPPED))
    monkeypatch.delattr(largebytes, "copied")
    assert parts.as_bytes(data) == data
