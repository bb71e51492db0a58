"""What the tests of the command line run in workers. Importable there by PYTHONPATH."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

not_callable = 3


class Tools:
    @staticmethod
    def upper(text: str) -> str:
        return text.upper()


def make_nameless() -> Callable[[str], str]:
    return lambda text: text


nameless = make_nameless()


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def same(value: Any) -> Any:
    return value


def nothing_expected() -> None:
    return None


def act(text: str) -> Any:
    """Do what the text says: a verb and an argument."""
    verb, _, argument = text.partition(" ")
    return _VERBS[verb](argument)


def _wait(fifo: str) -> str:
    """Wait until somebody has opened the named pipe for writing and closed it again."""
    return Path(fifo).read_text()


def _wait_and_log(paths: str) -> None:
    fifo, log = paths.split()
    _wait(fifo)
    _log(f"{log} released")


def _log(argument: str) -> str:
    path, word = argument.split()
    with open(path, "a") as file:
        file.write(word + "\n")
    return word


def _fail(message: str) -> None:
    raise ValueError(message)


def _fail_without_text(_argument: str) -> None:
    raise Unprintable


def _die(_argument: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_once(path: str) -> str:
    if not os.path.exists(path):
        Path(path).touch()
        _die("")
    return "second"


def _hang(_argument: str) -> None:
    time.sleep(3600)


def _hang_deaf(path: str) -> None:
    """Hang and ignore what could be ignored, after having said so by opening the named pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _wait(path)
    while True:
        time.sleep(3600)


def _chatter(text: str) -> str:
    """Write to all that looks like standard output, and try to eat the input."""
    print(text)
    os.write(1, text.encode() + b"\n")
    os.system(f"echo {text}")
    return os.read(0, 100).decode()


def _cycle(_argument: str) -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


def _deep(_argument: str) -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


_VERBS: dict[str, Callable[[str], Any]] = {
    "upper": str.upper,
    "length": len,
    "wait": _wait,
    "wait_and_log": _wait_and_log,
    "log": _log,
    "raise": _fail,
    "raise_without_text": _fail_without_text,
    "exit": lambda code: sys.exit(int(code)),
    "die": _die,
    "die_once": _die_once,
    "hang": _hang,
    "hang_deaf": _hang_deaf,
    "chatter": _chatter,
    "big": lambda size: "x" * int(size),
    "set": lambda _argument: {1},
    "bytes": lambda _argument: b"x",
    "nan": lambda _argument: float("nan"),
    "cycle": _cycle,
    "deep": _deep,
    "unpicklable": lambda _argument: lambda: None,
}

initialized = 0


def initialize() -> None:
    global initialized
    initialized += 1


def count_initialized(_text: str) -> int:
    return initialized


def fail_to_initialize() -> None:
    raise RuntimeError("the model is not there")


def initialize_unless_gone() -> None:
    """Fail as soon as the file that an environment variable names exists."""
    if os.path.exists(os.environ["CLI_TEST_GONE"]):
        raise RuntimeError("the model is gone")


def die_for_good(text: str) -> str:
    """End the worker, and keep every later one from getting warm."""
    if text == "end":
        Path(os.environ["CLI_TEST_GONE"]).touch()
        _die("")
    return text


_IMPORTED_IN = os.getpid()


def whose_import(line: str) -> tuple[int, int]:
    """Who has imported this module, and who has called this."""
    if line == "hang":
        time.sleep(3600)
    return _IMPORTED_IN, os.getpid()
