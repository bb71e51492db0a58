"""Explore worlds by hand: ``python -m tests.exploration [WORLD …]``, or ``--workers 2``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tests.exploration.case import Case
from tests.exploration.explore import Explorer
from tests.exploration.story import Storyteller
from tests.exploration.tray_mutants import MUTANTS
from tests.exploration.worlds import LARGE, SMALL, a_case

WORLDS = {**SMALL, **LARGE}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.exploration", description=__doc__)
    parser.add_argument("worlds", nargs="*", metavar="WORLD", help="or a part of its name")
    parser.add_argument("--list", action="store_true", help="name the worlds and the mutants")
    parser.add_argument("--large", action="store_true", help="all the large worlds")
    parser.add_argument("--mutant", help="find this bug, and tell how")
    parser.add_argument("--most", type=int, help="states of one world after which to stop")
    own = parser.add_argument_group("a world of your own")
    own.add_argument("--workers", type=int)
    own.add_argument("--tasks", type=int, default=1, choices=(1, 2, 3))
    own.add_argument("--faults", type=int, default=1, help="-1: no limit")
    own.add_argument("--late", action="store_true", help="the pool's thread may be late")
    own.add_argument("--few", action="store_true", help="callers only submit")
    own.add_argument("--min-idle", type=int)
    own.add_argument("--idle-timeout", type=float)
    own.add_argument("--lifetime", type=float)
    own.add_argument("--recycle", type=int, metavar="TASKS")
    return parser.parse_args()


def _own(given: argparse.Namespace) -> Case:
    settings: dict[str, Any] = {
        "min_idle": given.min_idle,
        "idle_timeout": given.idle_timeout,
        "worker_lifetime": given.lifetime,
        "max_tasks_per_child": given.recycle,
    }
    faults = None if given.faults < 0 else given.faults
    return a_case(
        given.workers, given.tasks, faults, late=given.late, callers=not given.few, **settings
    )


def explore(name: str, case: Case, most: int | None) -> bool:
    """Explore a world and print what was found; False if that is a bug."""
    print(f"{name}: ", end="", flush=True)
    report = Explorer(case, most).explore()
    print(report, flush=True)
    if report.violation is None:
        return True
    print(f"\n{Storyteller(case).tell(report.violation)}\n", flush=True)
    return False


def main() -> int:
    """Explore what the arguments say. The exit status is 1 if there is a bug."""
    given = _arguments()
    if given.list:
        print(*WORLDS, "", *MUTANTS, sep="\n")
        return 0
    if given.mutant is not None:
        mutant = MUTANTS[given.mutant]
        with mutant.applied():
            return int(explore(mutant.what, mutant.case, given.most))
    if given.workers is not None:
        return int(not explore("your world", _own(given), given.most))
    wanted = {
        name: case
        for name, case in WORLDS.items()
        if any(part in name for part in given.worlds) or (given.large and name in LARGE)
    }
    if not (given.worlds or given.large):
        wanted = SMALL
    results = [explore(name, case, given.most) for name, case in wanted.items()]
    return int(not all(results))


if __name__ == "__main__":
    sys.exit(main())
