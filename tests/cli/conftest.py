"""Runs the real command as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_HERE = Path(__file__).parent
_ROOT = _HERE.parent.parent


@dataclass
class Completed:
    """What a command left behind."""

    exitcode: int
    stdout: bytes
    stderr: str

    @property
    def records(self) -> list[Any]:
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def results(self) -> list[Any]:
        return [record.get("result") for record in self.records]


class Running:
    """A command that runs."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Path) -> None:
        self.process = process
        self._errors = errors

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def read(self) -> Any:
        """Wait for the next output line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the output has ended: {self.stderr}"
        return json.loads(line)

    @property
    def stderr(self) -> str:
        return self._errors.read_text()

    def interrupt(self, signum: int = signal.SIGINT) -> None:
        """Signal all processes of the command, as a terminal does for Ctrl-C."""
        os.killpg(self.process.pid, signum)

    def finish(self) -> Completed:
        """Close the input and wait for the end."""
        stdout, _ = self.process.communicate()
        return Completed(self.process.returncode, stdout or b"", self.stderr)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        with self.process:
            for stream in (self.process.stdin, self.process.stdout):
                if stream is not None:
                    stream.close()


class Runner:
    """Starts commands, and ends what is left of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = dict(os.environ)
        self.environment["PYTHONPATH"] = os.pathsep.join([str(_HERE), str(_ROOT)])
        self.environment.pop("PYTHONUNBUFFERED", None)
        self._running: list[Running] = []

    def start(self, *arguments: object, **options: Any) -> Running:
        """Start ``warmpool map`` with pipes; options go to Popen."""
        errors = self.directory / f"stderr-{len(self._running)}"
        defaults: dict[str, Any] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "cwd": self.directory,
            "env": self.environment,
            "start_new_session": True,
        }
        words = [sys.executable, "-m", "warmpool", "map", *map(str, arguments)]
        with errors.open("wb") as file:
            process = subprocess.Popen(words, **{**defaults, "stderr": file, **options})
        running = Running(process, errors)
        self._running.append(running)
        return running

    def run(self, *arguments: object, stdin: bytes = b"", **options: Any) -> Completed:
        """Run ``warmpool map`` to its end."""
        running = self.start(*arguments, **options)
        stdout, _ = running.process.communicate(stdin)
        return Completed(running.process.returncode, stdout or b"", running.stderr)

    def close(self) -> None:
        for running in self._running:
            running.close()


@pytest.fixture(scope="session", autouse=True)
def _folder_of_tmp_path(tmp_path_factory: pytest.TempPathFactory) -> None:
    # Made at its first use, it would end up in the private temporary folder of one test.
    tmp_path_factory.getbasetemp()


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Runner]:
    runner = Runner(tmp_path)
    yield runner
    runner.close()


@pytest.fixture
def fifo(tmp_path: Path) -> Callable[[], Path]:
    """Make named pipes for the verb "wait"."""
    made: list[Path] = []

    def make() -> Path:
        path = tmp_path / f"fifo-{len(made)}"
        os.mkfifo(path)
        made.append(path)
        return path

    return make


@pytest.fixture
def release() -> Callable[[Path], None]:
    """Wait until a worker reads the named pipe, then let it go on."""

    def release(path: Path) -> None:
        with path.open("w"):
            pass

    return release
