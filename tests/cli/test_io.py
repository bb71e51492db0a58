"""Lines and JSON, without a pool."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmpool import cli_io
from warmpool.cli_io import Input, Item, encode, failure_line
from warmpool.cli_output import Output


def read_all(pieces: list[bytes], *, jsonl: bool = False) -> list[Item]:
    """Read standard input that arrives in these pieces."""
    items = []
    reader, writer = os.pipe()
    source = Input(["-"], reader, jsonl=jsonl)
    for piece in pieces:
        assert source.next_item() is None
        os.write(writer, piece)
        source.read()
        while source._lines:  # an item for every complete line
            item = source.next_item()
            if item is not None:
                items.append(item)
    assert source.next_item() is None
    os.close(writer)
    source.read()
    while (item := source.next_item()) is not None:
        items.append(item)
    assert source.ended
    assert source.take_problems() == []
    os.close(reader)
    return items


@given(st.lists(st.binary(min_size=1, max_size=50)))
def test_lines_do_not_depend_on_how_they_arrive(pieces: list[bytes]) -> None:
    items = read_all(pieces)
    lines = b"".join(pieces).split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    assert [os.fsencode(str(item.value)) for item in items] == [
        line.removesuffix(b"\r") for line in lines
    ]
    assert [item.line for item in items] == list(range(1, len(lines) + 1))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.lists(json_values))
def test_json_values_come_back_as_they_were(values: list[Any]) -> None:
    lines = b"".join(encode(value) + b"\n" for value in values)
    items = read_all([lines] if lines else [], jsonl=True)
    assert [item.value for item in items] == values
    assert [json.loads(item.text) for item in items] == values


@given(st.text())
def test_any_text_can_be_written_on_one_line(text: str) -> None:
    line = failure_line(Item("-", 1, 0, encode(text), text), ValueError(text))
    assert line.count(b"\n") == 1
    record = json.loads(line)
    assert record == {"input": text, "error": {"type": "ValueError", "message": text}}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1}, object(), b"x"])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode(value)


def test_vanished_file_is_a_problem_and_the_next_one_is_read(tmp_path: Any) -> None:
    (tmp_path / "there").write_text("a\n")
    source = Input([str(tmp_path / "gone"), str(tmp_path / "there")], 0, jsonl=False)
    assert source.next_item() is None
    assert [text.partition(":")[0] for text in source.take_problems()] == [
        f"cannot open {tmp_path / 'gone'}"
    ]
    source.read()
    item = source.next_item()
    assert item is not None
    assert (item.value, item.line) == ("a", 1)
    source.close()


def test_a_line_without_end_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_io, "LONGEST_LINE", 1000)
    items = read_all([b"a\n" + b"x" * 900, *[b"y" * 400] * 20, b"\nb\n", b"z" * 1000])
    assert [item.value for item in items] == ["a", None, "b", "z" * 1000]
    assert [item.line for item in items] == [1, 2, 3, 4]
    assert items[1].end == 2 + 900 + 8000 + 1
    assert json.loads(items[1].text) == "x" * 100
    assert "8900 bytes" in str(items[1].error)


def test_output_never_blocks() -> None:
    reader, writer = os.pipe()
    output = Output(writer)
    output.add(b"x" * 1_000_000)
    received = b""
    while output.pending:
        while output.pending and output.write_some():
            pass
        received += os.read(reader, 100_000)
    while len(received) < 1_000_000:
        received += os.read(reader, 100_000)
    assert received == b"x" * 1_000_000
    os.close(reader)
    output.add(b"y")
    with pytest.raises(BrokenPipeError):
        output.write_some()
    output.close()
    os.close(writer)
