"""Wrong arguments: exit status 2, a message that names the argument, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("arguments", "named", "reason"),
    [
        ([], "MODULE:FUNCTION", "required"),
        (["json"], "MODULE:FUNCTION", "form MODULE:FUNCTION"),
        (["json:"], "MODULE:FUNCTION", "form MODULE:FUNCTION"),
        ([":loads"], "MODULE:FUNCTION", "form MODULE:FUNCTION"),
        (["json:loads:x"], "MODULE:FUNCTION", "form MODULE:FUNCTION"),
        (["./json.py:loads"], "MODULE:FUNCTION", "form MODULE:FUNCTION"),
        (["json..decoder:loads"], "MODULE:FUNCTION", "form MODULE:FUNCTION"),
        (["no_such_module:f"], "MODULE:FUNCTION", "no_such_module"),
        (["json.no_such_module:f"], "MODULE:FUNCTION", "json.no_such_module"),
        (["cli_functions:no_such"], "MODULE:FUNCTION", "no function 'no_such'"),
        (["cli_functions:Tools.uper"], "MODULE:FUNCTION", "did you mean 'upper'"),
        (["cli_functions:not_callable"], "MODULE:FUNCTION", "not callable"),
        (["cli_functions:nameless"], "MODULE:FUNCTION", "cannot be sent to workers"),
        (["cli_functions:nothing_expected"], "MODULE:FUNCTION", "one argument"),
        (["broken_module:f"], "MODULE:FUNCTION", "SyntaxError"),
        (["raising_module:f"], "MODULE:FUNCTION", "RuntimeError: not today"),
        (["needy_module:f"], "MODULE:FUNCTION", "No module named 'not_installed'"),
        (["exiting_module:f"], "MODULE:FUNCTION", "SystemExit"),
        (["json:loads", "--initializer", "json"], "--initializer", "form MODULE:FUNCTION"),
        (["json:loads", "--initializer", "json:nope"], "--initializer", "no function"),
        (["json:loads", "--initializer", "cli_functions:same"], "--initializer", "no arguments"),
        (["json:loads", "--preload", "a b"], "--preload", "'a b' is none"),
        (["json:loads", "--preload", "json,"], "--preload", "'' is none"),
        (["json:loads", "--workers", "0"], "--workers", "at least 1"),
        (["json:loads", "--workers", "-2"], "--workers", "negative"),
        (["json:loads", "--workers", "10001"], "--workers", "at most 10000"),
        (["json:loads", "--failures", "/dev/stdout"], "--failures", "where the results go"),
        (["json:loads", "--workers", "many"], "--workers", "whole number"),
        (["json:loads", "--timeout", "-1"], "--timeout", "above 0"),
        (["json:loads", "--timeout", "0"], "--timeout", "above 0"),
        (["json:loads", "--timeout", "nan"], "--timeout", "above 0"),
        (["json:loads", "--timeout", "inf"], "--timeout", "above 0"),
        (["json:loads", "--timeout", "soon"], "--timeout", "seconds"),
        (["json:loads", "--init-timeout", "0"], "--init-timeout", "above 0"),
        (["json:loads", "--retries", "-1"], "--retries", "negative"),
        (["json:loads", "--retries", "1.5"], "--retries", "whole number"),
        (["json:loads", "--start-method", "magic"], "--start-method", "magic"),
        (["json:loads", "no_such_file"], "FILE", "no_such_file"),
        (["json:loads", "."], "FILE", "directory"),
        (["json:loads", "--failures", "no_such_directory/f"], "--failures", "no_such_directory"),
        (["json:loads", "--failures", "."], "--failures", "'.'"),
        (["json:loads", "input", "--failures", "input"], "--failures", "input"),
        (["json:loads", "--no-such-option"], "--no-such-option", "unrecognized"),
        (["json:loads", "--work", "1"], "--work", "unrecognized"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_usage_error(
    command: Any, tmp_path: Path, arguments: list[str], named: str, reason: str
) -> None:
    (tmp_path / "broken_module.py").write_text("def f(:\n")
    (tmp_path / "raising_module.py").write_text("raise RuntimeError('not today')\n")
    (tmp_path / "needy_module.py").write_text("import not_installed\n")
    (tmp_path / "exiting_module.py").write_text("raise SystemExit\n")
    (tmp_path / "input").write_text("1\n")
    completed = command.run(*arguments, stdin=b"1\n")
    assert completed.exitcode == 2
    assert completed.stdout == b""
    message = completed.stderr.splitlines()[-1]
    assert message.startswith("warmpool")
    assert named in message
    assert reason in message
    assert "Traceback" not in completed.stderr
    assert (tmp_path / "input").read_text() == "1\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(command: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").touch(mode=0)
    completed = command.run("json:loads", "secret")
    assert completed.exitcode == 2
    assert "'secret': permission denied" in completed.stderr


@pytest.mark.parametrize("stream", ["<&-", ">&-"])
def test_closed_stream_is_a_usage_error(command: Any, stream: str) -> None:
    words = f"exec {sys.executable} -m warmpool map cli_functions:same {stream}"
    completed = subprocess.run(
        ["sh", "-c", words],
        env=command.environment,
        cwd=command.directory,
        capture_output=True,
        check=False,
    )
    assert completed.returncode == 2
    assert completed.stdout == b""
    assert b"is closed" in completed.stderr
    assert b"Traceback" not in completed.stderr


def test_closed_standard_error_spoils_nothing(command: Any, tmp_path: Path) -> None:
    words = f"exec {sys.executable} -m warmpool map cli_functions:act --workers 1 2>&-"
    completed = subprocess.run(
        ["sh", "-c", words],
        env=command.environment,
        cwd=command.directory,
        input=b"chatter noise\n",
        stdout=subprocess.PIPE,
        check=False,
    )
    assert completed.returncode == 0
    assert completed.stdout == b'{"input": "chatter noise", "result": ""}\n'


@pytest.mark.parametrize(
    ("words", "expected"), [(["--version"], "warmpool "), (["map", "--help"], "Exit status")]
)
def test_questions_are_answered_on_standard_output(
    command: Any, words: list[str], expected: str
) -> None:
    completed = subprocess.run(
        [sys.executable, "-m", "warmpool", *words],
        env=command.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0
    assert expected in completed.stdout
    assert completed.stderr == ""


def test_no_command_is_a_usage_error(command: Any) -> None:
    completed = subprocess.run(
        [sys.executable, "-m", "warmpool"],
        env=command.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 2
    assert "usage: warmpool" in completed.stderr


def test_standard_input_is_not_overwritten_with_its_failures(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("1\n2\n")
    with precious.open() as stdin:
        done = subprocess.run(
            [sys.executable, "-m", "warmpool", "map", "json:loads", "--failures", str(precious)],
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=20,
        )
    assert done.returncode == 2
    assert "argument --failures" in done.stderr
    assert precious.read_text() == "1\n2\n"


@pytest.mark.parametrize("separator", [[], ["--"]])
def test_files_may_come_after_options(command: Any, tmp_path: Path, separator: list[str]) -> None:
    (tmp_path / "one").write_text("1\n")
    (tmp_path / "two").write_text("2\n")
    names = [str(tmp_path / "one"), "--workers", "1", *separator, str(tmp_path / "two")]
    done = command.run("json:loads", *names)
    assert done.exitcode == 0
    assert done.results == [1, 2]
