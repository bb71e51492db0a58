"""``warmpool map`` when it is used as it is meant to be."""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from warmpool.start import AVAILABLE


def test_results_come_in_input_order_one_json_line_for_each_line(
    command: Any, fifo: Callable[[], Path], release: Callable[[Path], None]
) -> None:
    gate = fifo()
    running = command.start("cli_functions:act", "--workers", "2")
    running.write(f"wait {gate}\nupper b\nupper c\n".encode())
    release(gate)
    assert running.read() == {"input": f"wait {gate}", "result": ""}
    assert running.read() == {"input": "upper b", "result": "B"}
    assert running.read() == {"input": "upper c", "result": "C"}
    completed = running.finish()
    assert completed.exitcode == 0
    assert completed.stdout == b""


def test_many_items_keep_their_order(command: Any) -> None:
    words = [f"word{number}" for number in range(3000)]
    completed = command.run("cli_functions:Tools.upper", stdin="\n".join(words).encode())
    assert completed.exitcode == 0
    assert completed.records == [{"input": word, "result": word.upper()} for word in words]


def test_result_comes_before_the_next_line_is_there(command: Any) -> None:
    running = command.start("cli_functions:Tools.upper")
    for word in ("one", "two", "three"):
        running.write(f"{word}\n".encode())
        assert running.read()["result"] == word.upper()
    assert running.finish().exitcode == 0


def test_half_a_line_does_not_hold_up_the_result_before_it(command: Any) -> None:
    running = command.start("cli_functions:Tools.upper")
    running.write(b"one\ntw")
    assert running.read()["result"] == "ONE"
    running.write(b"o\n")
    assert running.read()["result"] == "TWO"
    assert running.finish().exitcode == 0


def test_window_is_bounded_while_the_oldest_item_is_slow(
    command: Any, tmp_path: Path, fifo: Callable[[], Path], release: Callable[[Path], None]
) -> None:
    first, last, log = fifo(), fifo(), tmp_path / "log"
    window = 2 * 64
    inside = [f"log {log} inside"] * (window - 2)
    outside = [f"log {log} outside"] * 500
    lines = [f"wait_and_log {first} {log}", *inside, f"wait {last}", *outside]
    running = command.start("cli_functions:act", "--workers", "2")
    running.write("\n".join(lines).encode())
    release(last)
    time.sleep(0.5)  # long enough for items that must not run to show themselves
    release(first)
    completed = running.finish()
    assert completed.exitcode == 0
    assert len(completed.records) == len(lines)
    logged = log.read_text().split()
    assert logged[: window - 1] == ["inside"] * (window - 2) + ["released"]


def test_endless_input_is_read_no_faster_than_it_is_done(
    command: Any, fifo: Callable[[], Path], release: Callable[[Path], None]
) -> None:
    gate = fifo()
    running = command.start("cli_functions:act", "--workers", "1")
    stdin = running.process.stdin
    running.write(b"upper x\n" + f"wait {gate}\n".encode())
    assert running.read()["result"] == "X"
    os.set_blocking(stdin.fileno(), False)
    line = b"upper endless\n"
    chunk = line * (select.PIPE_BUF // len(line))  # a pipe takes all of it or nothing
    accepted, limit = 0, 16 * 1024 * 1024
    while accepted < limit and select.select([], [stdin], [], 1.0)[1]:
        accepted += os.write(stdin.fileno(), chunk)
    assert accepted < 1024 * 1024
    release(gate)
    completed = running.finish()
    assert completed.exitcode == 0
    assert len(completed.records) == 1 + accepted // len(line)


def test_files_are_read_one_after_the_other(command: Any, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"a\nb")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "two").write_bytes(b"c\n")
    completed = command.run(
        "cli_functions:Tools.upper", "one", "-", "empty", "two", stdin=b"stdin\n"
    )
    assert completed.results == ["A", "B", "STDIN", "C"]
    assert completed.exitcode == 0


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_stdin_has_names(command: Any, name: str) -> None:
    assert command.run("cli_functions:same", name, stdin=b"a\n").results == ["a"]


def test_named_pipe_without_a_writer_holds_up_nothing(
    command: Any, tmp_path: Path, fifo: Callable[[], Path]
) -> None:
    (tmp_path / "one").write_bytes(b"a\n")
    late = fifo()
    running = command.start("cli_functions:same", "one", late)
    assert running.read()["result"] == "a"
    late.write_bytes(b"b\n")
    assert running.finish().results == ["b"]


def test_lines_are_strings_without_their_ends(command: Any) -> None:
    completed = command.run("cli_functions:same", stdin=b'a\n\r\n\n "q" \r\nlast')
    assert completed.results == ["a", "", "", ' "q" ', "last"]
    assert completed.records[0] == {"input": "a", "result": "a"}


def test_empty_input_is_no_error(command: Any) -> None:
    completed = command.run("cli_functions:same")
    assert (completed.exitcode, completed.stdout) == (0, b"")


def test_text_comes_out_as_utf8(command: Any) -> None:
    completed = command.run("cli_functions:same", stdin="grün\u2028\n".encode())
    assert completed.stdout.decode() == '{"input": "grün\u2028", "result": "grün\u2028"}\n'


def test_undecodable_bytes_survive_the_round_trip(command: Any) -> None:
    completed = command.run("cli_functions:same", stdin=b"\xff\xc3\nb\n")
    assert completed.exitcode == 0
    assert os.fsencode(completed.results[0]) == b"\xff\xc3"
    assert completed.records[0]["input"] == completed.results[0]
    assert completed.results[1] == "b"


def test_long_line_and_large_result(command: Any) -> None:
    running = command.start("cli_functions:act")
    completed_length = 300_000
    running.write(b"length " + b"x" * completed_length + b"\nbig 3000000\n")
    assert running.read()["result"] == completed_length
    assert len(running.read()["result"]) == 3_000_000
    assert running.finish().exitcode == 0


# ------------------------------------------------------------------------------ --jsonl


def test_jsonl_passes_values_and_skips_blank_lines(command: Any) -> None:
    lines = b'{"b": [1, 2.50, null], "a": true}\r\n\n  \n"text"\n12345678901234567890\n'
    completed = command.run("cli_functions:same", "--jsonl", stdin=lines)
    assert completed.exitcode == 0
    assert completed.results == [
        {"b": [1, 2.5, None], "a": True},
        "text",
        12345678901234567890,
    ]
    first = completed.stdout.splitlines()[0]
    assert first.startswith(b'{"input": {"b": [1, 2.50, null], "a": true}, "result": ')


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"{nope", id="syntax"),
        pytest.param(b"1 2", id="two values"),
        pytest.param(b"[NaN]", id="NaN"),
        pytest.param(b'"\xff"', id="bytes"),
        pytest.param(b"[" * 100_000, id="depth"),
        pytest.param(b"9" * 5000, id="digits"),
    ],
)
def test_invalid_json_fails_that_item_only(command: Any, tmp_path: Path, line: bytes) -> None:
    completed = command.run(
        "cli_functions:same", "--jsonl", "--failures", "failed", stdin=b"1\n\n" + line + b"\n2\n"
    )
    assert completed.exitcode == 1
    good, bad, also_good = completed.records
    assert (good["result"], also_good["result"]) == (1, 2)
    assert bad["error"]["type"] == "InputNotJSON"
    assert bad["input"].encode("utf-8", "surrogateescape") == line
    assert json.loads((tmp_path / "failed").read_text())["line"] == 3
    assert "Traceback" not in completed.stderr


# ------------------------------------------------------------------------------ items that fail


def test_failed_item_has_its_place_in_the_output(command: Any) -> None:
    completed = command.run("cli_functions:act", stdin=b"upper a\nraise too bad\nupper c\n")
    assert completed.exitcode == 1
    assert completed.records == [
        {"input": "upper a", "result": "A"},
        {"input": "raise too bad", "error": {"type": "ValueError", "message": "too bad"}},
        {"input": "upper c", "result": "C"},
    ]


def test_failures_file_tells_where_what_and_why(command: Any, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"upper a\nraise first\n")
    (tmp_path / "two").write_bytes(b"upper b\nupper c\nraise second\n")
    (tmp_path / "failed").write_text("from an earlier run\n")
    completed = command.run("cli_functions:act", "one", "two", "--failures", "failed")
    assert completed.exitcode == 1
    first, second = map(json.loads, (tmp_path / "failed").read_text().splitlines())
    assert (first["file"], first["line"], first["input"]) == ("one", 2, "raise first")
    assert (second["file"], second["line"], second["input"]) == ("two", 3, "raise second")
    assert first["error"]["type"] == "ValueError"
    assert first["error"]["message"] == "first"
    assert "in _fail" in first["error"]["traceback"]
    assert "cli_io" not in first["error"]["traceback"]


def test_failures_file_is_empty_when_all_went_well(command: Any, tmp_path: Path) -> None:
    assert command.run("cli_functions:same", "--failures", "failed", stdin=b"a\n").exitcode == 0
    assert (tmp_path / "failed").read_bytes() == b""


@pytest.mark.parametrize("verb", ["set", "bytes", "nan", "cycle"])
def test_result_that_json_cannot_express_fails_that_item_only(command: Any, verb: str) -> None:
    completed = command.run("cli_functions:act", stdin=f"{verb}\nupper b\n".encode())
    assert completed.exitcode == 1
    bad, good = completed.records
    assert bad["error"]["type"] == "ResultNotJSON"
    assert "cannot be written as JSON" in bad["error"]["message"]
    assert good["result"] == "B"


@pytest.mark.parametrize(
    "line",
    ["raise_without_text", "unpicklable", "deep", "exit 3", "die", "no_such_verb"],
)
def test_strange_failure_fails_that_item_only(command: Any, line: str) -> None:
    stdin = f"upper a\n{line}\nupper c\nupper d\n".encode()
    completed = command.run("cli_functions:act", "--workers", "2", stdin=stdin)
    assert completed.exitcode == 1
    assert completed.results == ["A", None, "C", "D"]
    assert completed.records[1]["input"] == line
    assert completed.records[1]["error"]["type"]


def test_dead_worker_is_named_in_the_error(command: Any) -> None:
    completed = command.run("cli_functions:act", stdin=b"die\n")
    error = completed.records[0]["error"]
    assert error["type"] == "WorkerDied"
    assert "SIGKILL" in error["message"]


def test_timeout_ends_a_hanging_item(command: Any, tmp_path: Path) -> None:
    stdin = b"upper a\nhang\nupper c\n"
    completed = command.run(
        "cli_functions:act", "--timeout", "2", "--failures", "failed", stdin=stdin
    )
    assert completed.exitcode == 1
    assert completed.results == ["A", None, "C"]
    assert completed.records[1]["error"]["type"] == "TaskTimeout"
    assert "TaskTimeout" in json.loads((tmp_path / "failed").read_text())["error"]["traceback"]


@pytest.mark.parametrize(("retries", "exitcode"), [("0", 1), ("1", 0)])
def test_retries(command: Any, tmp_path: Path, retries: str, exitcode: int) -> None:
    line = f"die_once {tmp_path / 'died'}\n".encode()
    completed = command.run("cli_functions:act", "--retries", retries, stdin=line)
    assert completed.exitcode == exitcode
    assert completed.results == [None if exitcode else "second"]


# ------------------------------------------------------------------------------ workers


def test_initializer_runs_once_in_every_worker(command: Any) -> None:
    completed = command.run(
        "cli_functions:count_initialized",
        "--initializer",
        "cli_functions:initialize",
        "--workers",
        "2",
        stdin=b"\n" * 20,
    )
    assert completed.exitcode == 0
    assert completed.results == [1] * 20


def test_preload_runs_once_for_all_workers(command: Any) -> None:
    options = ("--preload", "json,cli_functions", "--workers", "2", "--timeout", "0.5")
    stdin = b"\nhang\n\nhang\n\n"  # Each worker is replaced.
    completed = command.run("cli_functions:whose_import", *options, stdin=stdin)
    told = [result for result in completed.results if result is not None]
    assert len(told) == 3
    assert len({imported_in for imported_in, _ in told}) == 1
    assert all(imported_in != worker for imported_in, worker in told)


def test_workers_take_turns(command: Any, fifo: Callable[[], Path]) -> None:
    gates = [fifo(), fifo()]
    running = command.start("cli_functions:act", "--workers", "2")
    running.write("".join(f"wait {gate}\n" for gate in gates).encode())
    for gate in reversed(gates):  # the second runs although the first has not ended
        gate.write_text("")
    assert running.finish().results == ["", ""]


def test_module_is_found_in_the_current_directory(command: Any, tmp_path: Path) -> None:
    (tmp_path / "local_module.py").write_text("def double(text): return text * 2\n")
    assert command.run("local_module:double", stdin=b"ab\n").results == ["abab"]


@pytest.mark.parametrize("method", AVAILABLE)
def test_start_methods(command: Any, tmp_path: Path, method: str) -> None:
    (tmp_path / "local_module.py").write_text("def double(text): return text * 2\n")
    completed = command.run("local_module:double", "--start-method", method, stdin=b"ab\n")
    assert completed.results == ["abab"], completed.stderr


def test_what_workers_print_is_no_result(command: Any) -> None:
    stdin = b"chatter noise\nupper b\n"
    completed = command.run("cli_functions:act", "--workers", "1", stdin=stdin)
    assert completed.results == ["", "B"]
    assert completed.stderr.count("noise") == 3


def test_what_the_module_prints_is_no_result(command: Any) -> None:
    completed = command.run("cli_noisy_module:same", "--workers", "1", stdin=b"a\n")
    assert completed.results == ["a"]
    assert len(completed.stdout.splitlines()) == 1
    assert "imported" in completed.stderr


def test_module_is_imported_before_the_first_item(command: Any, tmp_path: Path) -> None:
    """The import belongs to getting warm, so it is not counted against the item's time limit."""
    (tmp_path / "slow_module.py").write_text(
        "import time\ntime.sleep(4)\ndef same(text): return text\n"
    )
    completed = command.run("slow_module:same", "--timeout", "3", stdin=b"a\n")
    assert completed.results == ["a"]
