"""Simulate pools: ``python -m tests.simulation --minutes 10``, or ``--seed 7 --only storm``."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.simulation.course import Course
from tests.simulation.mutants import MUTANTS
from tests.simulation.scenario import KINDS, Failed, run


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.simulation", description=__doc__)
    parser.add_argument("--hours", type=float, help="simulated pool-hours after which to stop")
    parser.add_argument("--minutes", type=float, help="real minutes after which to stop")
    parser.add_argument("--seed", type=int, help="the first one; by itself: this one alone")
    parser.add_argument("--only", choices=sorted(KINDS), help="pools of this kind")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="find this bug, and tell how")
    return parser.parse_args()


def main() -> int:
    """Simulate what the arguments say. The exit status is 1 if there is a bug."""
    given = _arguments()
    try:
        if given.mutant is not None:
            with MUTANTS[given.mutant].applied():
                _go_on(given)
        elif given.seed is not None and given.hours is None and given.minutes is None:
            for kind in [given.only] if given.only else sorted(KINDS):
                print(run(given.seed, kind))
        else:
            _go_on(given)
    except Failed as failed:
        print(f"\n{failed}")
        return 1
    return 0


def _go_on(given: argparse.Namespace) -> None:
    # Other seeds each time, unless somebody wants the same: what was found is told with its seed.
    first = random.SystemRandom().randrange(10**9) if given.seed is None else given.seed
    course = Course(first, given.only)
    minutes = given.minutes
    if minutes is None and given.hours is None:
        minutes = 1.0
    until = None if minutes is None else time.monotonic() + 60.0 * minutes
    while (until is None or time.monotonic() < until) and (
        given.hours is None or course.hours < given.hours
    ):
        course.step()
        if sys.stdout.isatty():
            print(f"\r{course}\x1b[K", end="", flush=True)
    print(f"\r{course}\nfailures: none; outcomes: {course.outcomes}")


if __name__ == "__main__":
    sys.exit(main())
