"""One target under atheris: ``python -m tests.fuzz.run NAME SECONDS FOLDER``. Ends its process."""

from __future__ import annotations

import sys

import atheris

# Before anything imports the package: what is instrumented is instrumented as it is imported.
with atheris.instrument_imports(include=["warmpool", "tests.fuzz"]):
    from tests.fuzz.targets import TARGETS

_LONGEST = 4096
"""Bytes of an input; a header of 17 promises as much in them as in more."""


def main(name: str, seconds: str, folder: str) -> None:
    options = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-max_len={_LONGEST}",
        "-rss_limit_mb=1024",
        "-timeout=20",
        f"-artifact_prefix={folder}/found-",
        folder,
    ]
    atheris.Setup(options, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
