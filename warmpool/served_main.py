"""The same, and the main module: a fork server would import that before it is tied to its host."""

from __future__ import annotations

from multiprocessing import process, spawn

from warmpool import served

# None with Python 3.11, and until 3.12.8 and 3.13.1, whose servers never find it.
if (_path := served.arguments().get("main_path")) is not None:
    # As forkserver.main() does.
    _current = process.current_process()
    _current._inheriting = True  # type: ignore[attr-defined]
    try:
        spawn.import_main_path(_path)
    finally:
        del _current._inheriting  # type: ignore[attr-defined]
