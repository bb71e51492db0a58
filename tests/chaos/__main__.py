"""Chaos by hand: ``python -m tests.chaos --minutes N --seed S``."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.chaos.outside import play
from tests.chaos.report import Report

ROUND = 120.0
"""Seconds of one round at most; each has a seed of its own, the next number."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for how long, about")
    parser.add_argument("--seed", type=int, help="of the first round; default: any")
    parser.add_argument("--keep", action="store_true", help="the files of a round that went wrong")
    return parser.parse_args()


def main() -> int:
    """Play rounds for as long as is asked for. The exit status is 1 if anything went wrong."""
    given = _arguments()
    seed = random.randrange(1_000_000) if given.seed is None else given.seed
    give_up_at = time.monotonic() + 60 * given.minutes
    total = Report()
    while (left := give_up_at - time.monotonic()) > 0:
        print(f"seed {seed}: ", end="", flush=True)
        report = play(seed, min(left, ROUND), keep=given.keep)
        print(report, flush=True)
        total.add(report)
        if left <= ROUND:
            break
        seed += 1
    print(f"\nin all: {total}")
    return int(bool(total.problems))


if __name__ == "__main__":
    sys.exit(main())
