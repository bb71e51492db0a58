#!/usr/bin/env python
"""Get CPython's own tests of executors, if the running Python came without them.

Many builds leave ``test.test_concurrent_futures`` out. Debian has it in a package of its own, from
which it is put into ``.conformance/`` at the root of this repository. Does nothing the second time.
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
        package = f"libpython{VERSION}-testsuite"
        subprocess.run(["apt-get", "-qq", "download", package], check=True, cwd=folder)
        archive = next(Path(folder).glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
        found = list(Path(folder, "usr", "lib", f"python{VERSION}", "test").glob(f"{NAME}*"))
        if not found:
            raise FileNotFoundError(f"{archive.name} holds no {NAME}")
        FOLDER.mkdir(exist_ok=True)
        shutil.move(found[0], FOLDER / found[0].name)


if __name__ == "__main__":
    if come_with_python():
        print(f"this Python {VERSION} has test.{NAME}")
    elif are_fetched():
        print(f"fetched before: {FOLDER}")
    else:
        fetch()
        print(f"fetched: {FOLDER}")
