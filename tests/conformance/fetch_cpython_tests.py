#!/usr/bin/env python
"""Get CPython's own tests of executors, if the running Python came without them.

Many builds leave ``test.test_concurrent_futures`` out. Debian has it in a package of its own, from
which it is put into ``.conformance/`` at the root of this repository, with what else of the package
it imports. Does nothing the second time.
Runs without the project's dependencies; wants apt-get and dpkg-deb, and root for a system whose
package lists are empty or old.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

NAME = "test_concurrent_futures"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
FOLDER = Path(__file__).resolve().parents[2] / ".conformance" / VERSION
"""Where the copy is. A minor version's tests are for it alone."""

_ALSO = "test_importlib"
"""From 3.14 on they have a decorator from the tests of something else."""


def come_with_python() -> bool:
    """Whether the running Python has the tests."""
    try:
        return importlib.util.find_spec(f"test.{NAME}") is not None
    except ImportError:
        return False  # Not even the package test.


def are_fetched() -> bool:
    """Whether there is a copy for this version of Python."""
    return any(FOLDER.glob(f"{NAME}*"))


def fetch() -> None:
    """Take them from Debian's package.

    Raises:
        subprocess.CalledProcessError: apt-get or dpkg-deb failed; it said why.
        FileNotFoundError: They do not exist here, or the package holds no such tests.
    """
    FOLDER.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent, prefix="fetch-") as folder:
        # Not checked: it needs root, and what it would get may be there.
        subprocess.run(["apt-get", "-qq", "update"], check=False)
        name = f"libpython{VERSION}-testsuite"
        subprocess.run(["apt-get", "-qq", "download", name], check=True, cwd=folder)
        archive = next(Path(folder).glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
        package = Path(folder, "usr", "lib", f"python{VERSION}", "test")
        found = list(package.glob(f"{NAME}*"))
        if not found:
            raise FileNotFoundError(f"{archive.name} holds no {NAME}")
        found += package.glob(_ALSO)
        for path in found:
            _let_stand_alone(path)
        FOLDER.mkdir(exist_ok=True)
        # The tests come last: they tell that the copy is whole.
        for path in reversed(found):
            shutil.move(path, FOLDER / path.name)


def _let_stand_alone(path: Path) -> None:
    """Have it import the others by the names that they have here: outside of the package test."""
    for file in [path] if path.is_file() else path.rglob("*.py"):
        text = file.read_text("utf-8")
        file.write_text(text.replace("test.test_", "test_"), "utf-8")


if __name__ == "__main__":
    if come_with_python():
        print(f"this Python {VERSION} has test.{NAME}")
    elif are_fetched():
        print(f"fetched before: {FOLDER}")
    else:
        fetch()
        print(f"fetched: {FOLDER}")
