"""``python -m tests.fuzz``: atheris looks for bytes that a parser does not come through.

It is led by the code that it reaches, and so gets where chance does not. What it finds is written
into the corpus, and told of; ``python -m tests.fuzz --target NAME FILE`` runs it again.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.targets import TARGETS, seeds

_LATE = 60.0
"""Seconds that a target may need beyond its time, for its start; then it hangs: a find, too."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit status is 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="with --target: run these alone")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all of them (%(default)s)")
    parser.add_argument("--target", choices=sorted(TARGETS), help="only this one")
    parser.add_argument("--corpus", type=Path, help="a folder to go on from, and to put finds into")
    given = parser.parse_args(arguments)
    names = [given.target] if given.target else list(TARGETS)
    if given.files:
        for file in given.files:
            for name in names:
                TARGETS[name](file.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        # It is there for few versions of Python, and few systems.
        print("skipped: atheris is not installed on this Python")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        corpus = given.corpus or Path(folder)
        failed = [name for name in names if not _run(name, given.seconds / len(names), corpus)]
    return 1 if failed else 0


def _run(name: str, seconds: float, corpus: Path) -> bool:
    """Run one target in a process of its own, which atheris ends; False if it found something."""
    folder = corpus / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()[name]):
        (folder / f"seed-{number}").write_bytes(seed)
    command = [sys.executable, "-m", "tests.fuzz.run", name, str(max(1, round(seconds))), folder]
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds + _LATE,
            check=False,
        )
        output, well = done.stdout or b"", done.returncode == 0
    except subprocess.TimeoutExpired as late:
        output, well = (late.stdout or b"") + b"\nit hangs", False
    text = output.decode("utf-8", "replace")
    ends = [line for line in text.splitlines() if line.startswith("Done ")]
    well = well and bool(ends)
    print(f"{name}: {ends[-1] if well else text[-6000:]}", flush=True)
    return well


if __name__ == "__main__":
    sys.exit(main())
