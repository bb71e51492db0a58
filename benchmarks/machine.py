"""Where and with what a run was made: what a reader needs before comparing it with another."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path


def facts(packages: list[str]) -> dict[str, object]:
    return {
        "processor": _processor(),
        "cores": len(cores()),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load": [round(load, 2) for load in os.getloadavg()],
        "kernel": platform.release(),
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "packages": {name: _version(name) for name in packages},
        "commit": _commit(),
    }


def cores() -> set[int]:
    """Those that this process may run on."""
    return os.sched_getaffinity(0)


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


def _processor() -> str:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _version(package: str) -> str | None:
    # What is imported may be distributed under another name.
    names = metadata.packages_distributions().get(package, [package])
    try:
        return metadata.version(names[0])
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit that was measured, with ``-dirty`` where the tree differs from it."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
