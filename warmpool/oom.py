"""Whether the kernel's out-of-memory killer was at work, by the counter of this process's cgroup.

Workers are in the host's cgroup, unless somebody has moved them. A count that has grown since the
last look, which is a heartbeat ago at most, makes a SIGKILL that nobody here has sent a certain
case.
"""

from __future__ import annotations

import os
from pathlib import Path

_ROOT = "/sys/fs/cgroup"


class OomCounter:
    """Looks at the counter. *Threads:* one; reads a file that is no file, and so never waits.

    Args:
        path: Of the cgroup's ``memory.events``, or of the older ``memory.oom_control``; None: of
            this process's.
    """

    def __init__(self, path: str | None = None) -> None:
        self._path = Path(_own_path() if path is None else path)
        self._before = self._read()

    def look(self) -> None:
        """Remember the count."""
        self._before = self._read()

    @property
    def has_grown(self) -> bool:
        """Whether a process has been killed since the last look."""
        return self._read() > self._before

    def _read(self) -> int:
        try:
            for line in self._path.read_bytes().splitlines():
                name, _, count = line.partition(b" ")
                if name == b"oom_kill":
                    return int(count)
        except (OSError, ValueError):
            pass  # Another system, an older kernel, the root of all cgroups: nothing is known.
        return 0


def _own_path() -> str:
    candidates: list[str] = []
    try:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            hierarchy, controllers, path = line.split(":", 2)
            # In a container, the path may be one outside of it.
            paths = (path.lstrip("/"), "")
            if hierarchy == "0":
                candidates += (os.path.join(_ROOT, path, "memory.events") for path in paths)
            elif "memory" in controllers.split(","):
                folder = os.path.join(_ROOT, "memory")
                candidates += (os.path.join(folder, p, "memory.oom_control") for p in paths)
    except (OSError, ValueError):
        pass  # As above.
    return next(filter(os.path.exists, candidates), os.devnull)
